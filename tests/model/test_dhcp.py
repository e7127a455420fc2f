"""Options that are none, that are Plum's own, or that are said twice."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from daemon.model.dhcp import OWN_CODES, Dhcp, DhcpOption
from daemon.responders import dhcp4, dhcp6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"code": 66}, "one of text, addresses and hex"),
        ({"code": 66, "text": "a", "hex": "00"}, "one of text, addresses and hex"),
        ({"code": 3, "addresses": ["10.0.0.1"]}, "is Plum's"),
        ({"code": 255, "hex": "00"}, "up to 254"),
        ({"code": 0, "hex": "00"}, "code"),
        ({"code": 42, "addresses": ["fd00::1"]}, "IPv4 addresses"),
        ({"code": 56, "family": 6, "addresses": ["10.0.0.1"]}, "IPv6 addresses"),
        ({"code": 43, "hex": "0"}, "hex"),
        ({"code": 43, "hex": "00" * 256}, "at most 255 bytes"),
        ({"code": 66, "text": "ümlaut"}, "ASCII"),
    ],
)
def test_a_bad_option_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DhcpOption.model_validate(given)
    assert words in str(caught.value)


def test_an_option_is_said_once() -> None:
    one = {"code": 66, "text": "boot.example"}
    with pytest.raises(ValidationError, match="there twice"):
        Dhcp.model_validate({"options": [one, one]})
    Dhcp.model_validate({"options": [one, {"code": 66, "text": "x", "family": 6}]})


def test_no_option_that_the_responders_write_can_be_given() -> None:
    assert {int(code) for code in dhcp4.Option} <= OWN_CODES[4]
    assert {int(code) for code in dhcp6.Option} <= OWN_CODES[6]
