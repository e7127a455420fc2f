"""Run plumctl. The one place where errors become exit codes."""

from __future__ import annotations

import os
import sys

from plumctl.errors import ExitCode, PlumError


def main() -> int:
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["_complete"]:  # on every press of Tab: no typer
            from plumctl.complete import candidates

            sys.stdout.write("".join(f"{word}\n" for word in candidates(arguments[1:])))
            code = 0
        else:
            code = _run()
        sys.stdout.flush()
    except PlumError as error:
        from plumctl import output

        output.failure(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        code = 141
    _drop_unwritable_output()
    return code


def _run() -> int:
    from plumctl.cli import app

    try:
        app(prog_name="plumctl")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _drop_unwritable_output() -> None:
    """Flush, or at exit Python would complain that the reader went away."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
