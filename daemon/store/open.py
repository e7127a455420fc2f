"""From a URL in the configuration to a store."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from daemon.store.interface import Store, StoreError
from daemon.store.sqlite import SqliteStore

ETCD_PORT = 2379
FORMS = "sqlite:///absolute/path or etcd://HOST:PORT,HOST:PORT?ca=FILE&cert=FILE&key=FILE"


async def open_store(url: str) -> Store:
    """Open `sqlite:///absolute/path`, creating the file if there is none, or an etcd cluster.

    Raises StoreError with what to do about it.
    """
    parts = urlsplit(url)
    if parts.scheme == "etcd":
        return await _open_etcd(url, parts)
    if parts.scheme != "sqlite":
        raise StoreError(f"store {url!r}: unknown kind of store: use {FORMS}")
    if parts.netloc or not parts.path.strip("/") or parts.query or parts.fragment:
        raise StoreError(f"store {url!r}: write the path as sqlite:///absolute/path")
    return await SqliteStore.open(Path(unquote(parts.path)))


async def _open_etcd(url: str, parts: SplitResult) -> Store:
    # Loaded only where it is used: gRPC takes time and memory.
    from daemon.store.etcd import EtcdStore
    from daemon.store.etcd_client import Tls

    files = {key: Path(values[-1]) for key, values in parse_qs(parts.query).items()}
    endpoints = parts.netloc.split(",")
    if parts.path.strip("/") or parts.fragment or not all(map(_has_port, endpoints)):
        raise StoreError(f"store {url!r}: write {FORMS}")
    if set(files) == {"ca", "cert", "key"}:
        return await EtcdStore.open(endpoints, Tls(files["ca"], files["cert"], files["key"]))
    if files or not all(map(_is_loopback, endpoints)):
        raise StoreError(
            f"store {url!r}: etcd is spoken over TLS: give ca=FILE, cert=FILE and key=FILE"
        )
    return await EtcdStore.open(endpoints, None)


def relies_on_zone(url: str) -> bool:
    """Whether it is an etcd elsewhere whose URL names no files: nodes show it the certificates
    that the zone's authority gave them."""
    parts = urlsplit(url)
    elsewhere = not all(map(_is_loopback, parts.netloc.split(",")))
    return parts.scheme == "etcd" and not parts.query and elsewhere


def endpoint(address: IPv4Address | IPv6Address, port: int) -> str:
    """As it stands in a URL."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _has_port(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    return bool(host) and port.isdigit()


def _is_loopback(endpoint: str) -> bool:
    try:
        return ip_address(endpoint.rpartition(":")[0].strip("[]")).is_loopback
    except ValueError:
        return False
