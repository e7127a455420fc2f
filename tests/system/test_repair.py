"""What somebody changed by hand is put back within two seconds, and said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from daemon.abi import EpKey, Verdict, Vtep, VtepKey
from daemon.datapath.maps import Map
from plumctl.run import run
from plumctl.sandbox import fabric
from tests.system.zone import Guest, Zone, domain, echoed, endpoint, tenant, until

TENANT = "t-sys-fix"
LAB = f"{TENANT}/lab"
#: The promise.
REPAIR_S = 2.0


@pytest.fixture(scope="module")
def pair(zone_of_three: Zone) -> Iterator[tuple[Guest, Guest]]:
    bridges = [{"name": "lan", "subnets": ["10.6.1.0/24", "fd06:1::/64"]}]
    rules = [{"name": "all", "protocol": "udp", "ports": ["1-65535"]}]
    spec = {"default": {}, "policies": [{"name": "open", "ingress": rules}]}
    zone_of_three.apply(
        [
            tenant(TENANT),
            domain(TENANT, "lab", bridges, **spec),
            endpoint(f"{LAB}/one", "lan", "n1", "10.6.1.11", "fd06:1::11"),
            endpoint(f"{LAB}/two", "lan", "n2", "10.6.1.12", "fd06:1::12"),
        ]
    )
    guests = zone_of_three.guests(TENANT)
    echoed(guests["lab/one"], guests["lab/two"])
    yield guests["lab/one"], guests["lab/two"]
    zone_of_three.drop_tenant(TENANT)


def table(zone: Zone, name: str, node: str = "n1") -> Map:
    return Map.pinned(zone.layout.node_pin_dir(node) / name)


def ifindex(zone: Zone, device: str) -> int:
    return int(zone.on("n1", "ip", "-o", "link", "show", device).split(":")[0])


def no_row_of_the_endpoint(zone: Zone, guest: Guest, device: str) -> None:
    table(zone, "plum_ep").delete(EpKey(ifindex(zone, device)).pack())


def no_verdicts(zone: Zone, guest: Guest, device: str) -> None:
    verdicts = table(zone, "plum_verdict")
    verdicts.delete_many(list(verdicts.dump()))


def other_verdicts(zone: Zone, guest: Guest, device: str) -> None:
    verdicts = table(zone, "plum_verdict")
    for key, value in verdicts.dump().items():
        verdicts.update(key, Verdict.unpack(value)._replace(list=7).pack())


def a_vtep_more(zone: Zone, guest: Guest, device: str) -> None:
    key = VtepKey(bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 200]))
    table(zone, "plum_vtep").update(key.pack(), Vtep(2).pack())


def another_vtep_of_the_node(zone: Zone, guest: Guest, device: str) -> None:
    config = table(zone, "plum_config")
    (key, value), *_ = config.dump().items()
    config.update(key, bytes(len(value)))


def no_filter(zone: Zone, guest: Guest, device: str) -> None:
    zone.on("n1", "tc", "filter", "del", "dev", device, "ingress")


def another_filter(zone: Zone, guest: Guest, device: str) -> None:
    pins = zone.layout.node_pin_dir("n1")
    (program,) = pins.glob("gen-*/plum_judge")
    zone.on("n1", "tc", "filter", "replace", "dev", device, "ingress", "pref", "1", "handle", "1",
            "protocol", "all", "bpf", "da", "object-pinned", str(program))  # fmt: skip


def no_qdisc(zone: Zone, guest: Guest, device: str) -> None:
    zone.on("n1", "tc", "qdisc", "del", "dev", device, "clsact")


def no_device(zone: Zone, guest: Guest, device: str) -> None:
    zone.on("n1", "ip", "link", "del", device)


def device_down(zone: Zone, guest: Guest, device: str) -> None:
    zone.on("n1", "ip", "link", "set", device, "down")


def no_namespace(zone: Zone, guest: Guest, device: str) -> None:
    run("ip", "netns", "del", guest.namespace)


def no_device_inside(zone: Zone, guest: Guest, device: str) -> None:
    guest.run("ip", "link", "del", "eth0")


def no_underlay_filter(zone: Zone, guest: Guest, device: str) -> None:
    zone.on("n1", "tc", "filter", "del", "dev", "underlay", "ingress")


def no_underlay_qdisc(zone: Zone, guest: Guest, device: str) -> None:
    zone.on("n1", "tc", "qdisc", "del", "dev", "underlay", "clsact")


DAMAGES: dict[Callable[[Zone, Guest, str], None], str] = {
    no_row_of_the_endpoint: "plum_ep: 1 rows missing",
    no_verdicts: "rows missing",
    other_verdicts: "rows changed",
    a_vtep_more: "plum_vtep: 1 rows not ours",
    another_vtep_of_the_node: "plum_config",
    no_filter: "filter of {device}",
    another_filter: "filter of {device}",
    no_qdisc: "filter of {device}",
    no_device: "device {device}",
    device_down: "device {device}",
    no_device_inside: "device {device}",
    no_namespace: "device {device}",
    no_underlay_filter: "filter of the underlay",
    no_underlay_qdisc: "filter of the underlay",
}


def passes(here: Guest, there: Guest) -> bool:
    """An echo on a flow that is new, and with neighbours that are not."""
    with suppress(OSError, AssertionError), there.udp(0) as server, here.udp(0) as client:
        client.settimeout(0.1)
        client.sendto(b"?", (there.ip(), server.getsockname()[1]))
        server.settimeout(0.1)
        _, sender = server.recvfrom(10)
        server.sendto(b"!", sender)
        return client.recv(10) == b"!"
    return False


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_repaired_and_said(
    plum: Zone, pair: tuple[Guest, Guest], damage: Callable[[Zone, Guest, str], None]
) -> None:
    one, two = pair
    device = plum.device(one.path)
    words = DAMAGES[damage].format(device=device)
    tables = ("plum_ep", "plum_verdict", "plum_vtep", "plum_config")
    before = {name: table(plum, name).dump() for name in tables}
    said = len(plum.repairs("n1"))
    started = time.monotonic()
    damage(plum, one, device)
    until(lambda: [what for what in plum.repairs("n1")[said:] if words in what], 10, 0.02)
    until(lambda: passes(one, two), 10)

    def restored() -> bool:
        if plum.device(one.path) != device or not ifindex(plum, device):
            return True  # a new device has rows of its own
        after = {name: table(plum, name).dump() for name in tables}
        return all(after[name] == before[name] for name in tables if name != "plum_ep")

    until(restored, 10, 0.02)
    assert time.monotonic() - started < REPAIR_S
    assert words in plum.log("n1")
    until(lambda: plum.view(one.path).state == "programmed")


def test_filter_is_ours_alone_again(plum: Zone, pair: tuple[Guest, Guest]) -> None:
    """Repaired or not: nothing passes a device whose filter is gone but what the host takes."""
    one, _ = pair
    device = plum.device(one.path)
    shown = plum.on("n1", "tc", "filter", "show", "dev", device, "ingress")
    assert shown.count("direct-action") == 1
    assert "plum_from_ep" in shown


def test_underlay_that_comes_and_goes(plum: Zone, pair: tuple[Guest, Guest]) -> None:
    one, two = pair
    plum.on("n1", "ip", "link", "set", "underlay", "down")
    assert not passes(one, two)
    plum.on("n1", "ip", "link", "set", "underlay", "up")
    until(lambda: passes(one, two), 5)


COUNT = 200


def crowd() -> list[dict[str, object]]:
    return [
        endpoint(
            f"{LAB}/many-{n}", "crowd", f"n{n % 2 + 1}", attach={"namespace": f"t-sys-many-{n}"}
        )
        for n in range(COUNT)
    ]


def test_death_in_the_middle_of_200_endpoints_converges(
    plum: Zone, pair: tuple[Guest, Guest]
) -> None:
    view = plum.view(LAB, "domain")
    spec = dict(view.spec)
    spec["bridges"] = [*spec["bridges"], {"name": "crowd", "subnets": ["10.6.8.0/22"]}]
    plum.apply([{"kind": "domain", "tenant": TENANT, "name": "lab", "spec": spec}])

    def made() -> int:
        return sum(name.startswith("t-sys-many-") for name in fabric.namespaces())

    revision = plum.apply(crowd(), node="n3", wait=False)
    until(made, 5, 0.001)
    plum.kill("n1", "n2")
    half = made()
    assert half < COUNT, "all was done before the kill: nothing was proven"
    plum.launch("n1", "n2")
    plum.wait(revision, "n3")
    assert made() == COUNT
    for first, second in ((0, 1), (2, 199), (100, 150)):
        ends = [plum.guest(f"{LAB}/many-{n}") for n in (first, second)]
        until(lambda ends=ends: passes(*ends))
    refs = [("endpoint", f"{LAB}/many-{n}") for n in range(COUNT)]
    plum.delete(*refs, wait=False)
    until(lambda: made() < COUNT, 5, 0.001)
    plum.kill("n1", "n2")  # and in the middle of their end
    plum.start("n1", "n2")
    until(lambda: made() == 0, 10)
    for node in ("n1", "n2"):
        until(lambda node=node: "many-" not in plum.on(node, "ip", "-o", "link", "show"))
        assert not plum.client(node).status().exceptions
