"""Tables of the documents, from the results that were kept.

`python -m benchmarks.documents` writes every table between its marks,
`<!-- table: NAME -->` and `<!-- end of table -->`; with `--check` it only says which are not up to
date, and exits 1.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from benchmarks.results import Benchmark, texts

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("docs/accuracy.md", "docs/performance.md", "docs/scale.md")
BENCHMARKS = (
    *("published", "cuda", "cuda_ranks", "allocator", "peers", "layer_table", "ranks"),
    *("growth", "overhead", "versions"),
)
MARKED = re.compile(r"(<!-- table: ([\w.]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def named_benchmark(name: str) -> Benchmark:
    """That of a module."""
    return import_module(f"benchmarks.{name}").BENCHMARK


def all_texts() -> dict[str, str]:
    """Every table that there is."""
    return {k: text for name in BENCHMARKS for k, text in texts(named_benchmark(name)).items()}


def filled(document: str, tables: Mapping[str, str]) -> str:
    """The document with its tables as they are now."""

    def table(mark: re.Match[str]) -> str:
        return f"{mark[1]}{tables[mark[2]]}\n{mark[3]}" if mark[2] in tables else mark[0]

    return MARKED.sub(table, document)


def named(document: str) -> set[str]:
    """The tables that a document shows."""
    return {mark[2] for mark in MARKED.finditer(document)}


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    tables, shown, stale = all_texts(), set[str](), []
    for name in DOCUMENTS:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        shown |= named(before)
        if (after := filled(before, tables)) != before:
            stale.append(name)
            if not is_check:
                path.write_text(after, encoding="utf-8")
    wrong = {
        "not up to date:": stale if is_check else [],
        "shown in no document:": sorted(tables.keys() - shown),
        "there is no such table:": sorted(shown - tables.keys()),
    }
    for what, names in wrong.items():
        if names:
            print(what, *names)
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())
