"""Options that several commands share, and how a command module starts."""

from __future__ import annotations

from typing import Annotated

import typer

Socket = Annotated[
    str | None,
    typer.Option(
        "--socket",
        metavar="FILE",
        help="Socket of the daemon (default: PLUM_SOCKET, this node's, the sandbox's).",
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT",
        help="table, wide, json, yaml, name or jsonpath=EXPR.",
    ),
]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Leave out the table's heading.")]
Tenant = Annotated[
    str | None, typer.Option("--tenant", "-t", metavar="TENANT", help="Of this tenant.")
]
Domain = Annotated[
    str | None, typer.Option("--domain", "-d", metavar="DOMAIN", help="Of this domain.")
]
Wait = Annotated[
    bool, typer.Option("--wait", "-w", help="Return when every node has programmed it.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long --wait waits.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Comment = Annotated[
    str, typer.Option("--comment", metavar="TEXT", help="Why; kept in the history.")
]
Files = Annotated[
    list[str],
    typer.Option(
        "-f",
        "--file",
        metavar="FILE",
        help="Manifest file, a directory of them, or - for stdin. May be repeated.",
    ),
]

DEFAULT_WAIT_S = 30.0


def new_app(help: str = "") -> typer.Typer:
    """A command module's app. No rich in help: it costs start-up time."""
    return typer.Typer(
        help=help or None,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=bool(help),
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
