"""What is no record, no name, no zone: refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from daemon.model.dns import Dns, Record

A = {"name": "www", "type": "A", "values": ["10.0.0.1"]}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"values": ["10.0.0"]}, "10.0.0"),
        ({"values": ["fd00::1"]}, "fd00::1"),
        ({"type": "AAAA"}, "10.0.0.1"),
        ({"name": "-www"}, "no DNS name"),
        ({"name": "a..b"}, "no DNS name"),
        ({"name": "x" * 64}, "no DNS name"),
        ({"type": "CNAME", "values": ["a.b", "c.d"]}, "not several"),
        ({"type": "CNAME", "values": ["a b"]}, "CNAME record: NAME"),
        ({"type": "MX", "values": ["mail.example.com"]}, "NUMBER NAME"),
        ({"type": "MX", "values": ["70000 mail.example.com"]}, "NUMBER NAME"),
        ({"type": "SRV", "values": ["1 2 sip.example.com"]}, "NUMBER NUMBER NUMBER NAME"),
        ({"type": "TXT", "values": ["x" * 256]}, "at most 255"),
        ({"type": "TXT", "values": ["line\nbreak"]}, "printable"),
        ({"type": "NS"}, "type"),
        ({"values": []}, "values"),
        ({"ttl_s": -1}, "ttl_s"),
    ],
)
def test_a_bad_record_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Record.model_validate(A | changed)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["@", "*", "*.apps", "_sip._udp", "a.b.c", "WWW"])
def test_good_names(name: str) -> None:
    Record.model_validate(A | {"name": name})


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([A, A], "is there twice"),
        ([A, A | {"name": "WWW"}], "is there twice"),
        ([A, {"name": "www", "type": "CNAME", "values": ["a.b"]}], "no other record"),
    ],
)
def test_records_that_contradict_each_other(records: list[Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Dns.model_validate({"records": records})
    assert words in str(caught.value)


def test_a_zone_is_a_name() -> None:
    assert Dns(zone="Shop.Example").zone == "shop.example"
    with pytest.raises(ValidationError):
        Dns(zone="shop.example.")
