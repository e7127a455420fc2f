"""Whether a backend is up, out of a row of checks; and how nodes tell each other. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from daemon.model.balancer import Health
from daemon.store.interface import Item


class Verdict(BaseModel):
    """Unlike the model, a report of a newer plumd may say more."""

    model_config = ConfigDict(frozen=True)

    up: bool = True
    since: str = Field(default="", description="RFC 3339")
    why: str = Field(default="", description="Of a backend that is down")


#: Value of /plum/health/T/D/N: by balancer and endpoint.
Report = dict[str, dict[str, Verdict]]
REPORT: TypeAdapter[Report] = TypeAdapter(Report)


@dataclass(frozen=True, slots=True)
class Row:
    """A verdict and the checks in a row that speak against it."""

    verdict: Verdict
    against: int = 0

    def after(self, why: str, health: Health, now: str) -> Row:
        """`why`: what the next check came to; empty: good. A backend stays what it is
        until `rise` or `fall` checks in a row say otherwise."""
        is_good = not why
        if is_good == self.verdict.up:
            return replace(self, against=0) if self.against else self
        against = self.against + 1
        if against < (health.rise if is_good else health.fall):
            return replace(self, against=against)
        return Row(Verdict(up=is_good, since=now, why=why))


def report_of(value: bytes) -> Report:
    try:
        return REPORT.validate_json(value)
    except ValidationError:
        return {}  # of a later plumd: who is not said to be down is up


def verdicts_of(items: Iterable[Item]) -> Report:
    """What all nodes say of one domain, put together."""
    found: Report = {}
    for item in items:
        for balancer, verdicts in report_of(item.value).items():
            found.setdefault(balancer, {}).update(verdicts)
    return found
