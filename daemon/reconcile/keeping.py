"""Compiling, with the last good state of a domain that does not compile. Pure but for memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from daemon.compiler.errors import CompileError
from daemon.compiler.node import Cache, compile_node
from daemon.compiler.result import Compiled, Device, Runtime
from daemon.model.object import Domain, Endpoint
from daemon.model.snapshot import Snapshot


@dataclass(slots=True)
class Keeper:
    """Remembers, of each domain, the last snapshot in which it compiled."""

    _good: dict[str, Snapshot] = field(default_factory=dict)
    _cache: Cache = field(default_factory=Cache)

    def compile(
        self,
        snapshot: Snapshot,
        node: str,
        devices: Mapping[str, Device],
        runtime: Runtime,
        moment: datetime | None = None,
    ) -> tuple[Compiled, Snapshot, dict[str, CompileError]]:
        """Rows, the snapshot they are really of, and what did not compile.

        A domain in error goes on as it last was, less the endpoints that are gone:
        nobody loses what worked, and nothing new is opened.
        """
        compiled = compile_node(snapshot, node, devices, runtime, self._cache, None, moment)
        errors = dict(compiled.errors)
        for path in snapshot.domains:
            if path not in errors:
                self._good[path] = snapshot
        for path in self._good.keys() - snapshot.domains.keys():
            del self._good[path]
        kept = {path: self._good[path] for path in errors if path in self._good}
        if not kept:
            return compiled, snapshot, errors
        effective = _substitute(snapshot, kept)
        again = compile_node(effective, node, devices, runtime, self._cache, kept, moment)
        return again, effective, errors


def _substitute(snapshot: Snapshot, kept: Mapping[str, Snapshot]) -> Snapshot:
    domains: dict[str, Domain] = dict(snapshot.domains)
    endpoints: dict[str, Endpoint] = {
        path: endpoint
        for path, endpoint in snapshot.endpoints.items()
        if f"{endpoint.tenant}/{endpoint.spec.domain}" not in kept
    }
    for domain, good in kept.items():
        domains[domain] = good.domains[domain]
        for path, endpoint in good.endpoints.items():
            current = snapshot.endpoints.get(path)
            same = current is not None and current.id == endpoint.id
            if same and f"{endpoint.tenant}/{endpoint.spec.domain}" == domain:
                endpoints[path] = endpoint
    return replace(snapshot, domains=domains, endpoints=endpoints)
