"""The index of endpoints is, after any changes, what a fresh one would be."""

from __future__ import annotations

from random import Random

from daemon.model.manifest import read_manifests
from daemon.model.object import Endpoint, Kind, Ref
from daemon.model.snapshot import Snapshot
from daemon.zone.edit import make_edit
from daemon.zone.index import Groups, domain_of, index_of

NODES, DOMAINS = ("n1", "n2", "n3"), ("t/a", "t/b")


def endpoint(random: Random, path: str) -> Endpoint:
    tenant, owner, name = path.split("/")
    spec = {"domain": owner, "bridge": "b", "node": random.choice(NODES)}
    about = {"tenant": tenant, "name": name, "id": 1, "slot": 1}
    return Endpoint.model_validate(
        {**about, "mac": "02:00:00:00:00:01", "addresses": [], "spec": spec}
    )


def grouped(pairs: list[tuple[str, str]]) -> dict[str, set[str]]:
    return {group: {path for path, one in pairs if one == group} for _, group in pairs}


def sets(groups: Groups) -> dict[str, set[str]]:
    assert all(len(set(paths)) == len(paths) for paths in groups.values())
    return {group: set(paths) for group, paths in groups.items() if paths}


def test_index_and_edits_follow_random_changes() -> None:
    random = Random(7)
    paths = [f"{domain}/e{number}" for domain in DOMAINS for number in range(6)]
    endpoints: dict[str, Endpoint] = {}
    for _ in range(400):
        endpoints = dict(endpoints)
        for path in random.sample(paths, random.randint(0, 4)):
            if endpoints.pop(path, None) is None or random.random() < 0.5:
                endpoints[path] = endpoint(random, path)
        index = index_of(endpoints)
        assert index.specs == {path: one.spec for path, one in endpoints.items()}
        assert sets(index.by_domain) == grouped([(p, domain_of(p)) for p in endpoints])
        assert sets(index.by_node) == grouped([(p, e.spec.node) for p, e in endpoints.items()])
        edit(random, endpoints, paths)


def edit(random: Random, endpoints: dict[str, Endpoint], paths: list[str]) -> None:
    removed, written = random.sample(sorted(endpoints), min(2, len(endpoints))), paths[:2]
    parsed = read_manifests(
        [
            {"kind": "endpoint", "tenant": "t", "name": path.split("/")[2],
             "spec": {"domain": "a", "bridge": "b", "node": random.choice(NODES)}}
            for path in written
        ]
    )  # fmt: skip
    refs = [Ref.parse(Kind.ENDPOINT, path) for path in removed]
    made = make_edit(Snapshot(1, endpoints=endpoints), parsed.manifests, refs)
    specs = made.endpoints
    assert specs.keys() == (endpoints.keys() - set(removed)) | set(written)
    assert sets(dict(made.endpoints_by_domain)) == grouped([(p, domain_of(p)) for p in specs])
    assert sets(dict(made.endpoints_by_node)) == grouped([(p, s.node) for p, s in specs.items()])
