"""A plumd with a planted bug: a store that lists nothing makes it delete everything."""

from __future__ import annotations

import sys

from daemon.__main__ import main
from daemon.model.snapshot import Snapshot
from daemon.reconcile.applier import Applier, Outcome

_apply = Applier.apply


def _sweep(self: Applier, snapshot: Snapshot) -> Outcome:
    outcome = _apply(self, snapshot)
    if outcome.unknown:
        for table in ("plum_ep", "plum_flow4", "plum_flow6"):
            self._host.erase(table, list(self._host.dump(table)))
    return outcome


if __name__ == "__main__":
    Applier.apply = _sweep  # type: ignore[method-assign]
    sys.exit(main())
