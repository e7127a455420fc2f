from __future__ import annotations

from random import Random

from daemon.model.difference import difference


def test_difference_is_what_a_look_at_every_key_finds() -> None:
    random = Random(3)
    table: dict[str, object] = {}
    for _ in range(2000):
        old, table = table, dict(table)
        for _ in range(random.randint(0, 3)):
            key = str(random.randrange(12))
            if random.random() < 0.3:
                table.pop(key, None)
            else:
                table[key] = object()
        if random.random() < 0.1:  # the same, in another order
            table = dict(sorted(table.items()))
        changed, gone = difference(old, table)
        assert sorted(changed) == sorted(k for k in table if old.get(k) is not table[k])
        assert sorted(gone) == sorted(old.keys() - table.keys())
