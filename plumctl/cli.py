"""The commands. Only the module of the chosen one is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from plumctl.options import examples

#: Exit code when the reader of our output went away: as a shell shows SIGPIPE.
EXIT_PIPE_CLOSED = 141


@dataclass(frozen=True, slots=True)
class Command:
    module: str  # in plumctl.commands
    help: str  # one line, for the list of commands
    hidden: bool = False


COMMANDS = {
    "apply": Command("apply", "Create and change objects from manifests."),
    "diff": Command("diff", "Show what apply would change."),
    "confirm": Command("confirm", "Keep what apply --confirm made."),
    "delete": Command("delete", "Delete objects."),
    "get": Command("get", "List objects, or show one."),
    "describe": Command("describe", "Everything about one object."),
    "export": Command("export", "Print objects as manifests."),
    "history": Command("history", "List applied revisions, or show one."),
    "rollback": Command("rollback", "Go back to how it was at a revision."),
    "template": Command("template", "Domains from templates."),
    "endpoint": Command("endpoint", "Create and delete endpoints."),
    "node": Command("node", "Take nodes into the zone, empty them, take them out."),
    "zone": Command("zone", "Make a zone, look at it, back it up, restore it, move it."),
    "etcd": Command("etcd", "Members of the zone's own etcd."),
    "mesh": Command("mesh", "The underlay between all nodes: times and loss."),
    "drops": Command("drops", "Why packets were dropped, and how many."),
    "rules": Command("rules", "How often each policy rule decided."),
    "policy": Command("policy", "Ask the policies what they would do."),
    "status": Command("status", "How this node fares."),
    "whoami": Command("whoami", "Who you are to the daemon, and in which role."),
    "user": Command("user", "Users of the zone and their roles."),
    "token": Command("token", "Tokens that users show."),
    "audit": Command("audit", "Who did, tried or looked at what."),
    "sandbox": Command("sandbox", "A whole zone on this machine, to try things out."),
    "completion": Command("completion", "Print the completion script of a shell."),
}


class LazyGroup(TyperGroup):
    """Loads a command when it is called; its list of commands needs none of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | TyperGroup | None:
        return load(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Names are enough for typer's "did you mean".
        self.commands = cast(Any, dict.fromkeys(COMMANDS))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(EXIT_PIPE_CLOSED) from None


def load(name: str) -> TyperCommand | TyperGroup | None:
    """The command of that name, its module imported now."""
    command = COMMANDS.get(name)
    if command is None:
        return None
    module = import_module(f"plumctl.commands.{command.module}")
    loaded = typer.main.get_command(module.app)
    assert isinstance(loaded, TyperCommand | TyperGroup)
    loaded.name = name
    return loaded


def version() -> str:
    try:
        return package_version("plum-networks")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"plumctl {version()}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    epilog=examples(
        "plumctl sandbox up --domain examples/shop.yaml",
        "plumctl get endpoint -o wide",
        "plumctl apply -f shop.yaml --wait",
    )
)
def plumctl(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            help="Ask this director over TLS (default: PLUM_SERVER), with --ca and --token-file.",
        ),
    ] = None,
    ca: Annotated[
        str | None,
        typer.Option(
            "--ca", metavar="FILE", help="Certificate of the zone's CA (default: PLUM_CA_FILE)."
        ),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Show the token in this file (default: PLUM_TOKEN_FILE).",
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option("--node", metavar="NODE", help="Have this node of the zone answer."),
    ] = None,
) -> None:
    """Virtual networks that run in the kernel of every node."""
    for variable, value in (
        ("PLUM_SERVER", server),
        ("PLUM_CA_FILE", ca),
        ("PLUM_TOKEN_FILE", token_file),
        ("PLUM_ASK_NODE", node),
    ):
        if value is not None:
            os.environ[variable] = value  # for the client, and for what we start
