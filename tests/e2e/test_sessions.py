"""A client reads its own writes, and never goes back in time, far from the primary too."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import NODES, eventually


def on_ten_connections(work):
    """A read behind a write of its own takes a round trip to the primary, so ten at a time."""
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, range(10)))


@pytest.mark.parametrize("node", ["asia-1", "us-2"])
def test_own_writes_are_read_far_from_the_primary(shared, node):
    def work(c):
        client = shared.redis(node, single_connection_client=True)
        for n in range(20):
            assert client.set(f"own:{c}", n)
            assert client.get(f"own:{c}") == str(n)

    on_ten_connections(work)


@pytest.mark.parametrize("node", ["asia-1", "us-2"])
def test_own_writes_are_read_in_a_pipeline(shared, node):
    def work(c):
        client = shared.redis(node, single_connection_client=True)
        for n in range(0, 20, 5):
            pipe = client.pipeline(transaction=False)
            for m in range(n, n + 5):
                pipe.set(f"piped:{c}", m).hset(f"piped:{c}:h", "f", m)
                pipe.get(f"piped:{c}").hget(f"piped:{c}:h", "f").mget(f"piped:{c}", "none")
            replies = pipe.execute()
            for m in range(n, n + 5):
                here = replies[(m - n) * 5 :][:5]
                assert here[2:] == [str(m), str(m), [str(m), None]], here

    on_ten_connections(work)


def test_many_writes_in_one_pipeline_take_one_round_trip(shared):
    client = shared.redis("asia-1", single_connection_client=True)
    client.ping()
    began = time.monotonic()
    pipe = client.pipeline(transaction=False)
    for n in range(2000):
        pipe.incr("many")
    pipe.get("many")
    replies = pipe.execute()
    assert replies == [*range(1, 2001), "2000"]
    assert time.monotonic() - began < 3


def test_no_node_goes_back_in_time(shared):
    writer = shared.redis("us-1")
    readers = {node: shared.redis(node) for node in NODES}
    last = dict.fromkeys(NODES, 0)
    for n in range(1, 400):
        writer.set("clock", n)
        node = random.choice(NODES)
        value = int(readers[node].get("clock") or 0)
        assert last[node] <= value <= n, (node, last[node], value, n)
        last[node] = value
    eventually(lambda: all(r.get("clock") == "399" for r in readers.values()), 5, "all see the last")


def test_bench_finds_no_violation(shared):
    nodes = [f"127.0.0.1:{shared.port('us-1')}"]
    done = shared.run(
        "bench", "--workload", "reference", "--clients", 64, "--rate", 2000, "--duration", 10,
        "--json", "--keyspace", "profiles", "--keys", 2000, *sum((["--node", n] for n in nodes), []),
        within_s=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    for promise in ("read_your_writes", "monotonic_reads"):
        assert report[promise]["violations"] == 0, report
        assert report[promise]["checked"] > 200, report
    assert not report["errors"], report["errors"]
    counts = {(row["region"], row["operation"]): row["count"] for row in report["operations"]}
    for region in ("us", "eu", "asia"):
        for operation in ("update", "read", "read-own"):
            assert counts.get((region, operation), 0) > 0, counts
