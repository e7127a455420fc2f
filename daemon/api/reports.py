"""Reading what nodes report of themselves."""

from __future__ import annotations

from daemon.reconcile.status import STATUS, NodeStatus
from daemon.store.interface import Store


async def read_reports(store: Store) -> dict[str, NodeStatus]:
    """The last report of every node, by name."""
    listing = await store.list(STATUS)
    reports = (NodeStatus.model_validate_json(item.value) for item in listing.items)
    return {report.node: report for report in reports}
