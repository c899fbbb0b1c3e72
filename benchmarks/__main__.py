"""Which measurements there are, and how each is started."""

from __future__ import annotations

import ast
from pathlib import Path


def main() -> None:
    print("Run each on an idle machine; --help says what it needs.\n")
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        print(f"python -m benchmarks.{path.stem:<14} {words.splitlines()[0] if words else ''}")


if __name__ == "__main__":
    main()
