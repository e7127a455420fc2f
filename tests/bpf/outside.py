"""The shop of `topology` with a way out: external network internet, gateways n2 and n3
(or those a test names), NAT on router one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from daemon.model.external import ExternalSpec, NatBlock
from daemon.model.object import External
from daemon.model.snapshot import Snapshot
from tests.bpf import topology as t
from tests.bpf.lab import vxlan

EXT_VNI = 7001
EXT_MAC = f"02:78:00:00:{EXT_VNI >> 8:02x}:{EXT_VNI & 255:02x}"
OUT = {4: "8.8.8.8", 6: "2001:db8:9999::8"}
SHARED = {4: "198.19.5.64", 6: "2001:db8:e:1::1"}
FLOAT = {4: "198.19.5.130", 6: "2001:db8:e:2::2"}
FORWARD = "198.19.5.131"
REMOTE_FLOAT = "198.19.5.132"  # of endpoint c on n2
OWN = {4: "198.19.5.2", 6: "2001:db8:e::2"}  # of the first gateway
ROUTER = {4: "198.19.5.1", 6: "2001:db8:e::1"}
BLOCK = 2048  # first of n1's ports
BLOCK_N2 = 4096

FLOATING = [
    {"address": FLOAT[4], "endpoint": "b"},
    {"address": FLOAT[6], "endpoint": "b"},
    {"address": REMOTE_FLOAT, "endpoint": "c"},
]
FORWARDS = [{"address": FORWARD, "port": 2222, "endpoint": "d", "to_port": 22}]


def zone_with_uplink(
    gateways: Sequence[str] = ("n2", "n3"),
    floating: Sequence[dict[str, Any]] = FLOATING,
    block_ports: int = 1024,
    vlan: int | None = None,
    mtu: int = 1500,
    rules: dict[str, Any] | None = None,
    prefixes: Sequence[dict[str, str]] = (),
    **domain: Any,
) -> Snapshot:
    """`rules`: of router one's interfaces, by bridge."""
    own = [(f"198.19.5.{i}/24", f"2001:db8:e::{i}/64") for i in range(2, 9)]
    spec = {
        "gateways": [
            {"node": node, "device": "ext0", "addresses": own[i]} for i, node in enumerate(gateways)
        ],
        "vlan": vlan,
        "routes": [
            {"to": "0.0.0.0/0", "via": [ROUTER[4]]},
            {"to": "::/0", "via": [ROUTER[6]]},
        ],
        "nat": ["198.19.5.64/30", "2001:db8:e:1::/126"],
        "floating": ["198.19.5.128/28", "2001:db8:e:2::/124", "2001:db8:e:100::/56"],
        "block_ports": block_ports,
        "mtu": mtu,
    }
    external = External(name="internet", spec=ExternalSpec.model_validate(spec), vni=EXT_VNI)
    shop = t.shop().spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    shop["routers"][0]["uplink"] = {
        "network": "internet",
        "floating": list(floating),
        "forwards": FORWARDS,
        "prefixes": list(prefixes),
    }
    for face in shop["routers"][0]["interfaces"]:
        face.update((rules or {}).get(face["bridge"], {}))
    blocks = {
        node: tuple(NatBlock(address=ip_address(SHARED[v]), first=first) for v in (4, 6))
        for node, first in (("n1", BLOCK), ("n2", BLOCK_N2))
    }
    made = t.shop(**{"routers": shop["routers"], **domain})
    made = made.model_copy(update={"nat_blocks": {"one": blocks}})
    return replace(t.zone(made), externals={"internet": external})


def answer(family: int, public: str, l4: Packet, node: int = 2, source: str = "") -> bytes:
    """From outside, as gateway n2 or n3 sends it on."""
    ip = IPv6 if family == 6 else IP
    ttl = {"hlim": 60} if family == 6 else {"ttl": 60}
    inner = Ether(src=EXT_MAC, dst=EXT_MAC) / ip(src=source or OUT[family], dst=public, **ttl) / l4
    return vxlan(inner, vni=EXT_VNI, src=t.VTEPS[node - 1])
