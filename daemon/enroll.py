"""How this machine gets into a zone: by making one, or by a join token.

    python -m daemon.enroll init --node N --vtep A --state-dir D (--store URL | --etcd)
    python -m daemon.enroll join --state-dir D [--vtep A] < TOKEN

`plumctl zone init` and `plumctl node join` call it. It says what it did as JSON on stdout;
what fails is said on stderr as the API says it, one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pwd
import shutil
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from daemon.api.joining import join
from daemon.etcd_unit import LocalMember, peer_url
from daemon.options import with_certificate
from daemon.store.interface import StoreError
from daemon.store.open import ETCD_PORT, endpoint, open_store
from daemon.trust.certificate import fingerprint
from daemon.trust.errors import TrustError
from daemon.trust.folder import Trust, TrustFolder
from daemon.trust.founding import found, prepare
from daemon.trust.invitation import read_invitation
from daemon.zone.errors import ZoneError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="plum-enroll", description=__doc__)
    parser.add_argument("what", choices=["init", "join"])
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--node")
    parser.add_argument("--vtep", type=ip_address)
    parser.add_argument("--underlay-mtu", type=int)
    parser.add_argument("--store")
    parser.add_argument("--etcd", action="store_true")
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args(arguments)
    try:
        given.state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        trust = asyncio.run(_init(given) if given.what == "init" else _join(given))
    except ZoneError as error:
        return _failed(error)
    except TrustError as error:
        return _failed(ZoneError(error.message, error.hint))
    except StoreError as error:
        return _failed(ZoneError(str(error), "look at the store, then try again"))
    except OSError as error:
        return _failed(ZoneError(str(error), "it needs root"))
    print(json.dumps(_document(trust)))
    return 0


async def _init(given: argparse.Namespace) -> Trust:
    folder = TrustFolder(given.state_dir / "trust")
    if not given.etcd:
        return await _found(given, folder, given.store, given.store)
    # The member trusts the zone's authority, so this is made first; and the node's
    # certificate is in use, from the draft of the trust folder, before it is the node's.
    folder.check_absent()
    member = LocalMember(given.state_dir)
    member.check_program()
    url = f"etcd://{endpoint(given.vtep, ETCD_PORT)}"
    prepared = _begun(folder, member, given, url)
    if prepared is None:
        prepared = prepare(folder, url, given.node, given.vtep, time.time())
        cluster = {given.node: peer_url(given.vtep)}
        member.prepare(given.node, given.vtep, folder.draft().path, cluster, new=True)
    member.start()
    reached = with_certificate(url, folder.draft().path)
    trust = await _found(given, folder, url, reached, prepared)
    member.use(folder.path)
    return trust


def _begun(
    folder: TrustFolder, member: LocalMember, given: argparse.Namespace, url: str
) -> Trust | None:
    """What the same command prepared before it broke off."""
    if not member.exists():
        return None
    if folder.draft().exists():
        trust = folder.draft().read()
        if (trust.node, trust.membership.store) == (given.node, url):
            return trust
    raise TrustError(
        f"{member.path} is a member of another etcd, or of one under another name",
        "to begin anew, without what it holds: systemctl disable --now plum-etcd, and remove it",
    )


async def _found(
    given: argparse.Namespace,
    folder: TrustFolder,
    url: str,
    reached: str,
    prepared: Trust | None = None,
) -> Trust:
    """`url` is what nodes are told, `reached` the same as it can be opened here and now."""
    async with await open_store(reached) as store:
        return await found(
            store,
            url,
            folder,
            given.node,
            given.vtep,
            given.underlay_mtu,
            actor=pwd.getpwuid(os.getuid()).pw_name,
            now=time.time(),
            prepared=prepared,
        )


async def _join(given: argparse.Namespace) -> Trust:
    folder = TrustFolder(given.state_dir / "trust")
    invitation = read_invitation(sys.stdin.read())
    _check_reachable(invitation.store)
    replaces = folder.exists() and given.again
    into = TrustFolder(folder.path.with_name("trust.again")) if replaces else folder
    if replaces:
        shutil.rmtree(into.path, ignore_errors=True)
    trust = await join(into, invitation, given.vtep, given.underlay_mtu, time.time())
    if replaces:  # only now: who is refused stays what it is
        _put_aside(folder.path)
        into.path.rename(folder.path)
    return trust


def _check_reachable(store: str) -> None:
    """Before the token is used up: this machine has what the store's URL names."""
    parts = urlsplit(store)
    if parts.scheme == "sqlite" and not Path(unquote(parts.path)).exists():
        raise TrustError(
            f"the zone's store is the file {parts.path} of another machine",
            "more than one machine needs etcd: plumctl zone migrate, on a director",
        )
    files = [path for paths in parse_qs(parts.query).values() for path in paths]
    missing = [path for path in files if not Path(path).exists()]
    if missing:
        raise TrustError(
            f"the zone's store needs {', '.join(missing)}, which this machine does not have",
            "copy them to the same place as on the directors, then join",
        )


def _put_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def _document(trust: Trust) -> dict[str, Any]:
    return {
        "zone": trust.zone_id,
        "node": trust.node,
        "vtep": str(trust.membership.vtep),
        "store": trust.membership.store,
        "authority_fingerprint": fingerprint(trust.authorities[-1]),
        "certificate_expires": trust.certificate.not_valid_after_utc.isoformat(),
    }


def _failed(error: ZoneError) -> int:
    print(json.dumps(error.document() | {"status": error.code}), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
