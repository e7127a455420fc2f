"""What every object of the model shares: names, labels, strictness."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface

#: DNS label (RFC 1123): also safe in file names, keys and device aliases.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
LabelText = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$", max_length=63)
]
Labels = dict[LabelText, LabelText]


def _unicast_mac(text: str) -> str:
    if int(text[:2], 16) & 1:
        raise ValueError("a MAC with the group bit set names no host")
    if text == "00:00:00:00:00:00":
        raise ValueError("the all-zero MAC names no host")
    return text


#: Lower-case, colon-separated, unicast.
Mac = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$", to_lower=True),
    AfterValidator(_unicast_mac),
]


class Model(BaseModel):
    """Frozen, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
