"""Draw docs/demo.svg: what `make demo` shows in a terminal.

python docs/picture.py < OUTPUT       OUTPUT: of `make demo`, colours included
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

FIRST, LAST = "# Two tenants", "# Bulk traffic"
COLUMNS = 112


def main() -> None:
    lines = sys.stdin.read().splitlines()
    start = next(i for i, line in enumerate(lines) if FIRST in line)
    end = next(i for i, line in enumerate(lines) if LAST in line)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in lines[start:end]:
        console.print(Text.from_ansi(line))
    Path(__file__).with_name("demo.svg").write_text(console.export_svg(title="make demo"))


if __name__ == "__main__":
    main()
