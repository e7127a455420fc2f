"""plumctl template"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from plumctl import applying, asking, options, output
from plumctl.errors import ExitCode, PlumError, Problem
from plumctl.locate import connect
from plumctl.templating import Parameter, Template, TemplateError, from_text, parse, render

app = options.new_app("Domains from templates: list, show, instantiate, upgrade.")

SHIPPED = Path(__file__).parent.parent / "templates"

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter; commas in a list. Repeat it."),
]
TemplateName = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Name of the template.")]


def _folders() -> list[Path]:
    """The user's own templates go before those of the same name that plumctl brings."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return [Path(base) / "plum" / "templates", SHIPPED]


def _templates() -> dict[str, Template]:
    found: dict[str, Template] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            try:
                template = parse(path.read_text(encoding="utf-8"), str(path))
            except TemplateError as error:
                raise _refused(f"template {path}", error) from error
            except (OSError, UnicodeDecodeError) as error:
                raise PlumError(f"cannot read {path}: {error}", "check the file") from error
            found.setdefault(template.name, template)
    return found


def _template(name: str) -> Template:
    template = _templates().get(name)
    if template is None:
        raise PlumError(f"there is no template {name}", "see which: plumctl template list")
    return template


def _refused(what: str, error: TemplateError) -> PlumError:
    return PlumError(
        f"{what} has problems; nothing was changed",
        "what a template and its parameters may be is in docs/templates.md",
        problems=tuple(Problem(one.path, one.message) for one in error.problems),
    )


@app.command("list", epilog=options.examples("plumctl template list"))
def list_templates(format: options.Format = "table", no_headers: options.NoHeaders = False) -> None:
    """The templates there are: your own, and those that plumctl brings."""
    out = output.Output(format, headers=not no_headers)
    found = sorted(_templates().values(), key=lambda one: one.name)
    columns: Sequence[output.Column[Template]] = (
        output.Column("NAME", lambda one: one.name),
        output.Column("VERSION", lambda one: str(one.version)),
        output.Column("DESCRIPTION", lambda one: one.description),
    )
    documents = [one.model_dump(mode="json", exclude={"body"}) for one in found]
    out.rows(found, columns, whole={"items": documents}, name=lambda one: one.name)


@app.command(epilog=options.examples("plumctl template show web-application"))
def show(template: TemplateName, format: options.Format = "table") -> None:
    """A template's parameters: what they are for, their types, defaults and bounds."""
    out = output.Output(format)
    found = _template(template)
    rows = sorted(found.parameters.items())
    if out.is_table:
        output.line(f"{found.name} {found.version}: {found.description}")
    columns: Sequence[output.Column[tuple[str, Parameter]]] = (
        output.Column("PARAMETER", lambda row: row[0]),
        output.Column("TYPE", lambda row: str(row[1].type)),
        output.Column("DEFAULT", lambda row: _default(row[1].default)),
        output.Column("BOUNDS", lambda row: _bounds(row[1])),
        output.Column("DESCRIPTION", lambda row: row[1].description),
    )
    out.rows(rows, columns, whole=found.model_dump(mode="json"), name=lambda row: row[0])


def _default(value: Any) -> str:
    return "required" if value is None else str(value)


def _bounds(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(parameter.choices)
    low, high = parameter.min, parameter.max
    if low is None and high is None:
        return ""
    return f"{'' if low is None else low}..{'' if high is None else high}"


@app.command(
    epilog=options.examples(
        "plumctl template instantiate web-application acme/shop --set nodes=n1,n2 --wait",
        "plumctl template instantiate playground acme/lab --set nodes=n1 --set bridges=3 --dry-run",
    )
)
def instantiate(
    template: TemplateName,
    domain: Annotated[str, typer.Argument(metavar="TENANT/DOMAIN", help="The domain to make.")],
    set: Set = None,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DEFAULT_WAIT_S,
    dry_run: options.DryRun = False,
    comment: options.Comment = "",
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Make a domain from a template: all of it, or nothing when a parameter is refused."""
    out = output.Output(format, headers=not no_headers)
    found = _template(template)
    tenant, _, name = domain.partition("/")
    if not tenant or not name or "/" in name:
        raise PlumError(f"{domain!r} is no TENANT/DOMAIN", "for example acme/shop", ExitCode.USAGE)
    documents = _rendered(found, tenant, name, _given(found, set))
    client = connect(socket)
    if any(view.path == domain for view in client.list("domain", tenant=tenant).items):
        raise PlumError(
            f"there is a domain {domain} already",
            "name another one; to bring an instance up to date: plumctl template upgrade",
        )
    applied = client.apply(documents, dry_run=dry_run, comment=comment)
    applying.emit(out, applied, dry_run=dry_run)
    if wait and not dry_run:
        applying.wait(client, applied.revision, timeout)


def _given(template: Template, assignments: list[str] | None) -> dict[str, Any]:
    """Unknown ones stay text: the template says what is wrong, with all the rest."""
    given: dict[str, Any] = {}
    for text in assignments or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise PlumError(f"{text!r} is no NAME=VALUE", "--set servers=3", ExitCode.USAGE)
        parameter = template.parameters.get(name)
        given[name] = from_text(parameter, value) if parameter else value
    return given


def _rendered(template: Template, tenant: str, name: str, given: Mapping[str, Any]) -> list[Any]:
    try:
        return render(template, tenant, name, given)
    except TemplateError as error:
        raise _refused(f"{template.name} for {tenant}/{name}", error) from error


@app.command(
    epilog=options.examples(
        "plumctl template upgrade web-application --dry-run",
        "plumctl template upgrade web-application --tenant acme --yes --wait",
    )
)
def upgrade(
    template: TemplateName,
    tenant: options.Tenant = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DEFAULT_WAIT_S,
    socket: options.Socket = None,
) -> None:
    """Bring every instance to the template as it is now. Shows all differences first."""
    found = _template(template)
    client = connect(socket)
    prepared = []
    for view in client.list("domain", tenant=tenant).items:
        origin = view.spec.get("origin") or {}
        if origin.get("template") == found.name:
            owner, _, name = view.path.partition("/")
            documents = _rendered(found, owner, name, origin.get("parameters", {}))
            prepared.append((view.path, documents, client.apply(documents, dry_run=True)))
    differing = [one for one in prepared if applying.changed(one[2])]
    for path, _, planned in differing:
        output.line(f"Instance {path}:")
        applying.emit_diff(planned)
    output.note(f"{len(prepared)} instances of {found.name}, {len(differing)} differ.")
    if dry_run or not differing:
        return
    asking.sure(f"This changes {len(differing)} domains.", yes=yes)
    for path, documents, _ in differing:
        applied = client.apply(documents, comment=f"template {found.name} {found.version}")
        output.note(f"{path}: {len(applying.changed(applied))} changed; history {applied.history}.")
        if wait:
            applying.wait(client, applied.revision, timeout)
