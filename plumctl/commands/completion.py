"""plumctl completion"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from plumctl import options
from plumctl.errors import ExitCode, PlumError

app = options.new_app()


@app.command(
    epilog=options.examples(
        "source <(plumctl completion bash)",
        "plumctl completion bash > /etc/bash_completion.d/plumctl",
        'plumctl completion zsh > "${fpath[1]}/_plumctl"',
        "plumctl completion fish > ~/.config/fish/completions/plumctl.fish",
    )
)
def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the completion script of a shell; it completes names of objects too."""
    from plumctl.shells import SHELLS, script

    if shell not in SHELLS:
        raise PlumError(
            f"no completions for {shell!r}", f"use one of {', '.join(SHELLS)}", ExitCode.USAGE
        )
    sys.stdout.write(script(shell))
