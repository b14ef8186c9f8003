"""Foreign text made safe to print: test names, file names and messages are anybody's."""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Control and format characters, separators other than the blank, surrogates, unassigned and
# non-characters: they hide, reorder or break what a reader or a parser sees.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
# Letters and marks that are drawn as nothing: of Unicode's Default_Ignorable_Code_Point those that
# are of no category above, and the blank pattern of Braille. Names that differ in them look alike.
_DRAWN_AS_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)

# What CI runners take for commands: GitHub `::name` at a line's start and `##[` anywhere, Azure
# `##vso[`; GitLab and Jenkins read `[[ATTACHMENT|` and archive the file it names.
_COMMANDS = re.compile(r"##(?=\[|vso\[)|\[\[(?=(?i:attachment)\|)|^(\s*):(?=:)", re.MULTILINE)


def visible(text: str, most: int | None = None) -> str:
    """The text on one line, with nothing in it that is invisible or a runner's command.

    Longer than `most` characters, it keeps its beginning and end around an ellipsis.
    """
    shown = text if text.isprintable() else "".join(map(_shown, text))
    shown = _DRAWN_AS_NOTHING.sub(lambda match: _escaped(match[0]), shown)
    shown = _COMMANDS.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", shown)
    return shown if most is None else shortened(shown, most)


def visible_lines(text: str) -> str:
    """As `visible`, line by line: newlines stay."""
    return "\n".join(visible(line) for line in text.split("\n"))


def without_commands(json_text: str) -> str:
    """JSON that says the same, with nothing in it that a runner takes for a command.

    In JSON, what begins a command is within a string, and any character of a string may be escaped.
    """
    return _COMMANDS.sub(lambda match: f"{match[0][:-1]}\\u{ord(match[0][-1]):04x}", json_text)


def shortened(text: str, most: int) -> str:
    """At most so many characters, cut in the middle."""
    if len(text) <= most:
        return text
    head = (most - 3) // 2
    tail = most - 3 - head
    return f"{text[:head]}...{text[-tail:]}" if tail > 0 else text[:most]


def distinct(text: str, most: int) -> str:
    """As `visible`, but what is cut ends with a digest, so that it is nobody else's."""
    shown = visible(text)
    if len(shown) <= most:
        return shown
    return f"{shown[: most - 16]}...{digest(text)}"


def digest(text: str) -> str:
    """Twelve characters that tell a text from others which look like it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _shown(character: str) -> str:
    is_seen = character == " " or unicodedata.category(character) not in _INVISIBLE
    return character if is_seen else _escaped(character)


def _escaped(character: str) -> str:
    code = ord(character)
    names = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if character in names:
        return names[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
