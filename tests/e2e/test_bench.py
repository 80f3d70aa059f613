"""The workloads of YCSB, over nodes that are named."""

import json

import pytest

from cluster import eventually

RECORDS = 400
FIGURES = {"count", "rate", "errors", "p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "p99_99_ms", "max_ms"}


@pytest.fixture
def keyspace(shared):
    name = "ycsb"
    number = shared.create(name, "ACK", "async", "PLACE", "us=1,eu=1")
    yield name, number
    shared.quire("keyspace", "drop", name, "--yes", within_s=20)


def bench(shared, keyspace, *options):
    nodes = ",".join(f"127.0.0.1:{shared.port(node)}" for node in ("us-1", "eu-1"))
    done = shared.run(
        "bench", "--workload", "ycsb-b", "--records", RECORDS, "--clients", 8, "--duration", 2,
        "--json", "--keyspace", keyspace, "--node", nodes, *options, within_s=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_ycsb_b_on_two_nodes(shared, keyspace):
    name, number = keyspace
    # A node that was not told of the keyspace yet would refuse the bench's SELECT.
    eventually(lambda: all(shared.redis(node, db=number).ping() for node in ("us-1", "eu-1")), 10,
               "both nodes know the keyspace")
    report = bench(shared, name)
    assert report["workload"] == "ycsb-b" and report["clients"] == 8, report
    assert report["keys"] == report["filled"]["keys"] == RECORDS, report
    # Every record was at every node before the first was read.
    assert not report["errors"], report["errors"]
    for promise in ("read_your_writes", "monotonic_reads"):
        assert report[promise] == {"checked": 0, "violations": 0}, report

    total = {row["operation"]: row for row in report["total"]}
    assert set(total) == {"read", "update"}, total
    for row in report["total"] + report["operations"] + report["nodes"]:
        assert FIGURES <= set(row), row
        tail = [row[p] for p in ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "p99_99_ms", "max_ms")]
        assert tail == sorted(tail) and tail[0] > 0, row
    # Each operation is drawn, so that the proportion holds only about, and more so with more.
    # (Clients far away do fewer, in the same proportion.)
    share = total["read"]["count"] / sum(row["count"] for row in report["total"])
    assert 0.8 < share < 1, share

    by_region = {(row["region"], row["operation"]): row["count"] for row in report["operations"]}
    by_node = {(row["region"], row["operation"]): row["count"] for row in report["nodes"]}
    assert {region for region, _ in by_region} == {"us", "eu"}, by_region
    # One node a region.
    assert by_node == by_region
    ports = {row["node"]: row["region"] for row in report["nodes"]}
    assert ports == {f"127.0.0.1:{shared.port(f'{r}-1')}": r for r in ("us", "eu")}
    for operation, row in total.items():
        assert row["count"] == sum(n for (_, o), n in by_region.items() if o == operation)

    client = shared.redis("us-1", db=number)
    assert client.dbsize() == RECORDS
    record = client.hgetall("user6284781860667377211")
    assert set(record) == {f"field{n}" for n in range(10)}, record
    assert all(len(value) == 100 for value in record.values()), record

    # What is there is kept, and a rate is kept to.
    report = bench(shared, name, "--rate", 200)
    assert report["filled"]["keys"] == 0, report["filled"]
    assert report["rate_asked"] == 200 and report["pipeline"] is None
    # The schedule says how many fall due, and the last of a client may fall behind the end.
    asked = sum(row["count"] for row in report["total"]) + sum(report["errors"].values())
    assert 392 <= asked <= 400, report
