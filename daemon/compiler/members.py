"""A snapshot's endpoints by domain, kept from one snapshot to the next."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.model.difference import difference
from daemon.model.object import Endpoint

#: By path: an endpoint before and after; None: not there.
Changed = dict[str, tuple[Endpoint | None, Endpoint | None]]


class Members:
    """Groups the endpoints once; from then on costs little more than what changed."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.domains: dict[str, dict[str, Endpoint]] = {}  # domain -> path -> endpoint
        self.local: dict[str, set[str]] = {}  # domain -> paths, of those on the node
        self._endpoints: Mapping[str, Endpoint] = {}

    def advance(self, endpoints: Mapping[str, Endpoint]) -> dict[str, Changed]:
        """Go on to these endpoints; what changed, by domain. Objects are told apart by
        identity, so keep unchanged ones when a snapshot is renewed."""
        before = self._endpoints
        if endpoints is before:
            return {}
        self._endpoints = endpoints
        changed: dict[str, Changed] = {}
        fresh, gone = difference(before, endpoints)
        for path in fresh:
            self._put(changed, path, before.get(path), endpoints[path])
        for path in gone:
            self._put(changed, path, before[path], None)
        return changed

    def _put(
        self, changed: dict[str, Changed], path: str, old: Endpoint | None, new: Endpoint | None
    ) -> None:
        domain = path.rpartition("/")[0]
        changed.setdefault(domain, {})[path] = (old, new)
        group = self.domains.setdefault(domain, {})
        local = self.local.setdefault(domain, set())
        if new is None:
            del group[path]
        else:
            group[path] = new
        if new is not None and new.spec.node == self.node:
            local.add(path)
        else:
            local.discard(path)
        if not group:
            del self.domains[domain], self.local[domain]
