"""From what a person types to an object's path, with help when it does not fit."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError

#: Kinds that belong to the zone, not to a tenant.
ZONE_KINDS = ("node", "external")
#: Kind -> parts of a full path.
DEPTH = {"tenant": 1, "domain": 2, "endpoint": 3, "node": 1, "external": 1, "adminpolicy": 1}

_SPELLINGS = {
    "tenant": ("tenants",),
    "domain": ("domains", "dom", "do"),
    "endpoint": ("endpoints", "ep", "eps"),
    "node": ("nodes", "no"),
    "adminpolicy": ("adminpolicies", "apol"),
    "external": ("externals", "ext"),
}
_SHOWN_CANDIDATES = 10


def kind_of(text: str) -> str:
    """The kind for `endpoint`, `endpoints`, `ep`, ..."""
    word = text.lower()
    for kind, others in _SPELLINGS.items():
        if word == kind or word in others:
            return kind
    near = get_close_matches(word, [word for kind in _SPELLINGS for word in kinds(kind)], n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise PlumError(
        f"unknown kind {text!r}",
        f"{meant}kinds are endpoint (ep), domain (dom), tenant, node (no), external (ext), "
        "adminpolicy (apol)",
        ExitCode.USAGE,
    )


def kinds(kind: str) -> tuple[str, ...]:
    return (kind, *_SPELLINGS[kind])


def resolve(
    client: Client,
    kind: str,
    name: str,
    tenant: str | None = None,
    domain: str | None = None,
) -> str:
    """The full path. A full path is taken as it is; the daemon is not asked."""
    parts = name.split("/")
    depth = DEPTH[kind]
    if not all(parts) or len(parts) > depth:
        shapes = {1: "NAME", 2: "TENANT/NAME", 3: "TENANT/DOMAIN/NAME"}
        raise PlumError(
            f"{name!r} is no name of a {kind}", f"write {shapes[depth]}, or NAME", ExitCode.USAGE
        )
    if len(parts) == depth:
        return name
    tenant, domain = scope(tenant, domain)
    if tenant and len(parts) == depth - 1 and kind == "domain":
        return f"{tenant}/{name}"
    if tenant and domain and len(parts) == 1:
        return f"{tenant}/{domain}/{name}"
    paths = [view.path for view in client.list(kind, tenant, domain).items]
    found = [path for path in paths if path.split("/")[-len(parts) :] == parts]
    if len(found) == 1:
        return found[0]
    if not found:
        raise unknown(kind, name, paths)
    shown = ", ".join(sorted(found)[:_SHOWN_CANDIDATES])
    more = len(found) - _SHOWN_CANDIDATES
    raise PlumError(
        f"{name!r} may be {shown}" + (f" and {more} more" if more > 0 else ""),
        "write the full path, or add --tenant and --domain",
        ExitCode.USAGE,
    )


def scope(tenant: str | None, domain: str | None) -> tuple[str | None, str | None]:
    """`--domain acme/shop` says the tenant too."""
    if domain and "/" in domain:
        owner, _, name = domain.partition("/")
        if tenant and tenant != owner:
            raise PlumError(
                f"--domain {domain} is not of --tenant {tenant}",
                "leave one of them out",
                ExitCode.USAGE,
            )
        return owner, name
    return tenant, domain


def unknown(kind: str, name: str, paths: Iterable[str]) -> PlumError:
    """Not found, naming what is near."""
    by_spelling: dict[str, str] = {}
    for path in paths:
        by_spelling[path] = path
        by_spelling.setdefault(path.rsplit("/", 1)[-1], path)
    near = get_close_matches(name, by_spelling, n=3, cutoff=0.6)
    near += get_close_matches(name.rsplit("/", 1)[-1], by_spelling, n=3, cutoff=0.6)
    meant = list(dict.fromkeys(by_spelling[spelling] for spelling in near))[:3]
    hint = f"did you mean {' or '.join(meant)}?" if meant else f"see all: plumctl get {kind}"
    return PlumError(f"there is no {kind} {name!r}", hint, ExitCode.NOT_FOUND)


def explain_missing(client: Client, kind: str, path: str, error: PlumError) -> PlumError:
    """The daemon's 404 with near names added; any other error as it is."""
    if error.exit_code != ExitCode.NOT_FOUND:
        return error
    return unknown(kind, path, (view.path for view in client.list(kind).items))
