"""Where things live in the store."""

from __future__ import annotations

from daemon.model.object import Kind, Ref

ROOT = "/plum/"
HISTORY = f"{ROOT}history/"
CONFIRM = f"{ROOT}confirm/"
#: `alive/N`: bound to a lease that node N's plumd keeps.
ALIVE = f"{ROOT}alive/"
#: `mesh/N`: the peers node N cannot reach through the datapath; written when that changes.
MESH = f"{ROOT}mesh/"
#: `liveness/N`: what the leader of that job makes of both.
LIVENESS = f"{ROOT}liveness/"
#: Counters and the number of the last revision. Every change of the zone
#: compares and writes this key, so changes happen one after the other and each
#: is checked against exactly the state it is applied to.
ZONE = f"{ROOT}alloc/zone"
#: Which zone this is.
IDENTITY = f"{ROOT}identity"
#: Which authorities sign and are trusted, and how far a change of them is. Not there: the one
#: that the zone was made with. It goes with the nodes' trust folders, so no backup has it.
AUTHORITY = f"{ROOT}authority"
#: `cert/N`: the one certificate that is accepted for node N.
CERTIFICATES = f"{ROOT}cert/"
#: `join/ID`: invitations of nodes.
JOINS = f"{ROOT}join/"
USERS = f"{ROOT}user/"
TOKENS = f"{ROOT}token/"
#: `members/T`: names of the tenant's users. Written with every one of them, compared by
#: whoever deletes the tenant: nobody becomes operator of a later tenant of that name.
MEMBERS = f"{ROOT}members/"
#: There while the zone is being restored (see `restoring`).
RESTORE = f"{ROOT}restore"
#: `placement/N/T/D` is there while node N hosts endpoints of domain T/D: how a node
#: knows which domains to follow without following the whole zone.
PLACEMENT = f"{ROOT}placement/"
#: Watch these for the objects of the model.
OBJECT_PREFIXES = tuple(f"{ROOT}{kind}/" for kind in Kind)


def object_key(ref: Ref) -> str:
    """`/plum/endpoint/acme/shop/web-1`."""
    return f"{ROOT}{ref.kind}/{ref.path}"


def placement_prefix(node: str) -> str:
    return f"{PLACEMENT}{node}/"


def placement_key(node: str, domain: str) -> str:
    """`/plum/placement/n1/acme/shop`; `domain` is a domain's path."""
    return f"{PLACEMENT}{node}/{domain}"


def split_key(key: str) -> tuple[Kind, str] | None:
    """Kind and path of an object's key; None for keys that hold something else."""
    head, _, path = key.removeprefix(ROOT).partition("/")
    try:
        return Kind(head), path
    except ValueError:
        return None


def history_key(seq: int) -> str:
    """Padded, so that revisions list in order."""
    return f"{HISTORY}{seq:010d}"


def confirm_key(seq: int) -> str:
    return f"{CONFIRM}{seq:010d}"


def seq_of(key: str) -> int:
    """The revision a history or confirm key is of."""
    return int(key.rpartition("/")[2])


def leader_key(job: str) -> str:
    """Bound to the leader's lease; its revision is the fence of the job's writes."""
    return f"{ROOT}leader/{job}"


def liveness_key(node: str) -> str:
    return f"{LIVENESS}{node}"
