"""Write the completion scripts beside this file. Run: python completions/generate.py"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from plumctl.shells import SHELLS, script


def main() -> None:
    for shell in SHELLS:
        (HERE / f"plumctl.{shell}").write_text(script(shell))


if __name__ == "__main__":
    main()
