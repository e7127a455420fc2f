"""What one tenant's operator may change: asked before a change is planned, and of its plan.

Before: of what is named only, so that the answer tells nothing of what exists. Of the plan:
inside the transaction, so that it holds for exactly the state that is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from daemon.api.answers import ProblemAnswer
from daemon.api.errors import RefusedError
from daemon.api.sight import Sight
from daemon.model.endpoint import Attach
from daemon.model.object import Endpoint, Kind, Ref
from daemon.zone.plan import Change, Plan

_HINT = "an administrator of the zone can; your own are listed by plumctl get"


def check_named(sight: Sight, refs: Iterable[Ref]) -> None:
    """Raises RefusedError if one of the objects is not the tenant's."""
    _refuse([(ref, "is not yours to change") for ref in refs if not sight.sees(ref)])


def check_plan(sight: Sight) -> Callable[[Plan], None] | None:
    """For `transact`: raises RefusedError if the plan does what an operator may not."""
    if sight.tenant is None:
        return None

    def check(plan: Plan) -> None:
        found = [(c.ref, words) for c in plan.effective if (words := _problem(sight, c))]
        _refuse(found)

    return check


def _problem(sight: Sight, change: Change) -> str:
    if not sight.sees(change.ref):
        return "is not yours to change"
    if change.ref.kind is Kind.TENANT:
        return "says what you may use: an administrator of the zone changes it"
    if _takes_a_device(change):
        return (
            "spec.attach names a device or namespace of the node: an administrator of the zone "
            "attaches those"
        )
    return ""


def _takes_a_device(change: Change) -> bool:
    """Other than what it had: any device of the node could be named, the underlay's too."""
    after = change.after
    if not isinstance(after, Endpoint) or _is_free(after.spec.attach):
        return False
    before = change.before
    return not (
        isinstance(before, Endpoint)
        and before.spec.node == after.spec.node
        and _place(before.spec.attach) == _place(after.spec.attach)
    )


def _is_free(attach: Attach) -> bool:
    return _place(attach) == _place(Attach())


def _place(attach: Attach) -> tuple[object, ...]:
    return (attach.kind, attach.namespace, attach.device)


def _refuse(found: list[tuple[Ref, str]]) -> None:
    if not found:
        return
    problems = tuple(ProblemAnswer(path=ref.text, message=words) for ref, words in found)
    first = f"{problems[0].path}: {problems[0].message}"
    count = len(problems)
    message = first if count == 1 else f"{count} objects you may not change; nothing was changed"
    raise RefusedError(message, _HINT, problems)
