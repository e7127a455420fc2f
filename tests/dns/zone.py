"""A domain with names, for tests."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from daemon.dns.names import Names, names_of
from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.object import Domain, Endpoint

BRIDGES = [{"name": "lan", "subnets": ["10.1.0.0/23", "fd00:1::/64"]}]
ROUTERS = [{"name": "gw", "interfaces": [{"bridge": "lan", "addresses": ["10.1.0.1/23"]}]}]
RECORDS = [
    {"name": "www", "type": "CNAME", "values": ["web.shop.example"]},
    {"name": "docs", "type": "CNAME", "values": ["www.example.com"]},
    {"name": "loop", "type": "CNAME", "values": ["loop.shop.example"]},
    {"name": "@", "type": "MX", "values": ["10 mail.shop.example"]},
    {"name": "@", "type": "TXT", "values": ['v=spf1 "quoted" -all']},
    {"name": "_sip._udp", "type": "SRV", "values": ["10 5 5060 web.shop.example"]},
    {"name": "*.apps", "type": "A", "values": ["10.1.0.80"], "ttl_s": 7},
    {"name": "here.apps", "type": "A", "values": ["10.1.0.81"]},
    {"name": "big", "type": "TXT", "values": [f"{n:03}" + "x" * 100 for n in range(30)]},
    {"name": "gw", "type": "A", "values": ["10.1.0.254"]},
]


def domain(**dns: Any) -> Domain:
    given = {"zone": "shop.example", "records": RECORDS, **dns}
    spec = DomainSpec.model_validate(
        {
            "bridges": BRIDGES,
            "routers": ROUTERS,
            "groups": [
                {"name": "servers", "labels": {"role": "server"}},
                {"name": "nobody", "labels": {"role": "none"}},
            ],
            "dns": given,
        }
    )
    return Domain(tenant="acme", name="shop", spec=spec, id=7, vnis={}, router_ids={})


def endpoint(name: str, *addresses: str, **labels: str) -> Endpoint:
    spec = EndpointSpec.model_validate(
        {"domain": "shop", "bridge": "lan", "node": "n1", "labels": labels}
    )
    return Endpoint(
        tenant="acme",
        name=name,
        spec=spec,
        id=1,
        slot=1,
        mac="02:65:00:00:00:01",
        addresses=tuple(map(ip_address, addresses)),
    )


MEMBERS = [
    endpoint("web", "10.1.0.11", "fd00:1::11", role="server"),
    endpoint("api", "10.1.1.12", role="server"),
    endpoint("db", "10.1.0.13"),
]


def names(**dns: Any) -> Names:
    made = names_of(domain(**dns), MEMBERS)
    assert made is not None
    return made
