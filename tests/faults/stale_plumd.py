"""A plumd with a planted bug: it never renews its certificate."""

from __future__ import annotations

import asyncio
import sys

from daemon.__main__ import main
from daemon.api.upkeep import Upkeep


async def _never(self: Upkeep) -> None:
    await asyncio.Event().wait()


if __name__ == "__main__":
    Upkeep.renew = _never  # type: ignore[method-assign]
    sys.exit(main())
