"""The version of what is written where in the store.

It changes only when an older plumd would misread what a newer one writes. A new
field in a model is no new format: who does not know it refuses that object alone
(`daemon/zone/read.py`).
"""

from __future__ import annotations

import json

from daemon.store.interface import Store, StoreError
from daemon.zone.keys import IDENTITY

FORMAT = 1


async def check_format(store: Store) -> None:
    """Raises StoreError if the store is not one this plumd may read or write.

    Without the identity key it has the first format.
    """
    item = await store.get(IDENTITY)
    if item is None:
        return
    try:
        found = int(json.loads(item.value).get("format", FORMAT))
    except (ValueError, TypeError, AttributeError):
        raise StoreError(
            f"{IDENTITY} in the store says nothing: restore it (`plumctl zone restore`)"
        ) from None
    if found > FORMAT:
        raise StoreError(
            f"the store has format {found} and this plumd knows formats up to {FORMAT}:"
            " a later plumd wrote it; upgrade plumd on this node. The datapath goes on as it is"
        )
