from __future__ import annotations

import json
from typing import Any

COUNTERS = {
    "nodes": {
        "n1": {
            "endpoints": [
                {
                    "path": "acme/shop/web-1",
                    "rx_packets": 12,
                    "rx_bytes": 900,
                    "tx_packets": 3,
                    "tx_bytes": 210,
                    "drop_packets": 5,
                    "flows": 1,
                }
            ],
            "rules": [
                {
                    "domain": "acme/shop",
                    "policy": "web",
                    "direction": "ingress",
                    "rule": "http",
                    "action": "allow",
                    "hits": 4,
                }
            ],
            "drops": [
                {
                    "reason": "POLICY_INGRESS",
                    "text": "refused by an ingress rule",
                    "endpoint": "acme/shop/web-1",
                    "packets": 5,
                    "bytes": 300,
                },
                {
                    "reason": "TTL",
                    "text": "TTL or hop limit ran out",
                    "endpoint": None,
                    "packets": 9,
                    "bytes": 540,
                },
            ],
        },
        "n2": {
            "error": None,
            "endpoints": [],
            "drops": [],
            "rules": [
                {
                    "domain": "acme/shop",
                    "policy": "web",
                    "direction": "ingress",
                    "rule": "http",
                    "action": "allow",
                    "hits": 6,
                }
            ],
        },
    }
}


def test_endpoints_are_a_plain_aligned_table_off_a_terminal(plumctl: Any, shop: Any) -> None:
    done = plumctl("get", "endpoint")
    assert done.code == 0
    assert done.err == ""
    assert done.out == (
        "ENDPOINT          BRIDGE   ADDRESSES   NODE   STATE\n"
        "acme/shop/db-1    web      10.0.1.7    n1     error\n"
        "acme/shop/web-1   web      10.0.1.7    n1     programmed\n"
        "zeta/shop/web-1   web      10.0.1.7    n1     programmed\n"
    )


def test_wide_adds_mac_reason_and_counters(plumctl: Any, shop: Any) -> None:
    shop.counters = COUNTERS
    heading, db, web, _ = (line.split() for line in plumctl("get", "ep", "-o", "wide").lines)
    assert heading[4:13] == [
        "STATE",
        "REASON",
        "MAC",
        "RX-PACKETS",
        "RX-BYTES",
        "TX-PACKETS",
        "TX-BYTES",
        "DROPS",
        "LABELS",
    ]
    assert " ".join(db[4:10]) == "error n1: device tap7 is missing"
    assert web[6:12] == ["02:00:00:00:00:07", "12", "900", "3", "210", "5"]


def test_headings_can_be_left_out(plumctl: Any, shop: Any) -> None:
    assert plumctl("get", "no", "--no-headers").lines == [
        "n1   192.0.2.1   1500   edge   no   -   programmed   -"
    ]


def test_plural_and_short_kinds_mean_the_same(plumctl: Any, shop: Any) -> None:
    for kind in ("endpoint", "endpoints", "ep"):
        assert len(plumctl("get", kind, "--tenant", "acme", "-o", "name").lines) == 2
    assert plumctl("get", "dom", "-o", "name").lines == ["acme/shop", "zeta/shop"]


def test_json_yaml_and_jsonpath_show_the_whole(plumctl: Any, shop: Any) -> None:
    whole = json.loads(plumctl("get", "ep", "-o", "json").out)
    assert [item["name"] for item in whole["items"]] == ["db-1", "web-1", "web-1"]
    one = json.loads(plumctl("get", "ep", "db-1", "-o", "json").out)
    assert one["status"]["reason"] == "n1: device tap7 is missing"
    assert "name: db-1\n" in plumctl("get", "ep", "db-1", "-o", "yaml").out
    by_path = plumctl("get", "ep", "-o", "jsonpath={.items[*].allocated.mac}")
    assert by_path.out.split() == ["02:00:00:00:00:07"] * 3


def test_short_name_that_two_have_lists_them(plumctl: Any, shop: Any) -> None:
    done = plumctl("get", "ep", "web-1")
    assert done.code == 2
    assert "acme/shop/web-1, zeta/shop/web-1" in done.err
    assert (
        plumctl("get", "ep", "web-1", "--tenant", "zeta", "-o", "name").out == "zeta/shop/web-1\n"
    )


def test_unknown_name_suggests_a_near_one(plumctl: Any, shop: Any) -> None:
    for name in ("db-2", "acme/shop/db-11"):
        done = plumctl("get", "ep", name)
        assert done.code == 4
        assert "did you mean acme/shop/db-1" in done.err
    assert "did you mean endpoint?" in plumctl("get", "endpiont").err


def test_describe_shows_state_counters_and_drops(plumctl: Any, shop: Any) -> None:
    shop.counters = COUNTERS
    out = plumctl("describe", "ep", "acme/shop/web-1").out
    assert "State:      programmed\n" in out
    assert "  Received:  12 packets, 900 B\n" in out
    assert "  POLICY_INGRESS:  5 packets\n" in out
    assert "  bridge: web\n" in out


def test_drops_lists_reasons_most_first(plumctl: Any, shop: Any) -> None:
    shop.counters = COUNTERS
    rows = [line.split() for line in plumctl("drops", "--no-headers").lines]
    assert [(row[0], row[-2]) for row in rows] == [("TTL", "9"), ("POLICY_INGRESS", "5")]
    of_one = plumctl("drops", "-e", "acme/shop/web-1", "-o", "json")
    assert [row["reason"] for row in json.loads(of_one.out)["items"]] == ["POLICY_INGRESS"]
    assert plumctl("drops", "--node", "n1", "-o", "name").lines == ["TTL", "POLICY_INGRESS"]


def test_an_unreachable_node_is_named_and_fails_the_command(plumctl: Any, shop: Any) -> None:
    shop.counters = {"nodes": COUNTERS["nodes"] | {"n3": {"error": "no route to it"}}}
    done = plumctl("drops")
    assert done.code == 3
    assert "POLICY_INGRESS" in done.out
    assert "n3: no route to it" in done.err


def test_rules_sums_hits_over_nodes(plumctl: Any, shop: Any) -> None:
    shop.counters = COUNTERS
    assert plumctl("rules", "--domain", "acme/shop", "--no-headers").lines == [
        "acme/shop   web   ingress   http   allow   10"
    ]
    assert plumctl("rules", "--tenant", "zeta").out == ""


def test_status_names_exceptions_and_repairs(plumctl: Any, zone: Any) -> None:
    zone.exceptions = [
        {"kind": "endpoint", "path": "acme/shop/db-1", "state": "error", "reason": "no device"}
    ]
    zone.repairs = [{"time": "2026-11-23T07:00:00Z", "what": "put back the filter of db-1"}]
    out = plumctl("status").out
    assert "Exceptions:  1\n" in out
    assert "  error endpoint acme/shop/db-1: no device\n" in out
    assert "put back the filter of db-1" in out


def test_export_is_what_apply_takes(plumctl: Any, shop: Any) -> None:
    exported = plumctl("export").out
    assert exported.count("---\n") == 7
    again = plumctl("apply", "-f", "-", stdin=exported)
    assert (again.code, again.err) == (0, "Nothing to change.\n")
    only = plumctl("export", "--tenant", "acme", "--domain", "shop", "-o", "json")
    assert [item["kind"] for item in json.loads(only.out)] == [
        "tenant",
        "domain",
        "endpoint",
        "endpoint",
    ]
