"""Foreign text made safe to print: test names, file names and messages are anybody's."""

from __future__ import annotations

import hashlib
import re

# What is not printable (control and format characters, separators other than the blank, surrogates,
# unassigned and non-characters) hides, reorders or breaks what a reader or a parser sees. These are
# printable by their class and not seen either: fillers, joiners, the empty Braille cell, and
# variation selectors, in which whole texts have been hidden.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

# What CI runners take for commands: GitHub `::name` at a line's start and `##[` anywhere, Azure
# `##vso[`; GitLab and Jenkins read `[[ATTACHMENT|` and archive the file it names.
_COMMANDS = re.compile(r"##(?=\[|vso\[)|\[\[(?=(?i:attachment)\|)|^(\s*):(?=:)", re.MULTILINE)


def visible(text: str, most: int | None = None) -> str:
    """The text on one line, with nothing in it that is invisible or a runner's command.

    Longer than `most` characters, it keeps its beginning and end around an ellipsis.
    """
    shown = text if _is_seen(text) else "".join(map(_shown, text))
    shown = _COMMANDS.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", shown)
    return shown if most is None else shortened(shown, most)


def visible_lines(text: str) -> str:
    """As `visible`, line by line: newlines stay."""
    return "\n".join(visible(line) for line in text.split("\n"))


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
    return character if _is_seen(character) else _escaped(character)


def _is_seen(text: str) -> bool:
    return text.isprintable() and (text.isascii() or _UNSEEN.search(text) is None)


def _escaped(character: str) -> str:
    code = ord(character)
    names = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if character in names:
        return names[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
