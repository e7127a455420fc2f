"""`make test-deb` builds the package and says which (PLUM_DEB): then it is booted too."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("PLUM_DEB") else ["test_booted.py", "test_node_add.py"]
