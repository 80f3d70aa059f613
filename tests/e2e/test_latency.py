"""How long a write takes under the links of the reference deployment, and who sees it when."""

import statistics
import threading
import time

import pytest

from cluster import EVERYWHERE

# The farthest replica is 200 ms away, one way.
SYNC_MIN_MS, SYNC_MAX_MS = 400, 470


@pytest.fixture(scope="module")
def keyspaces(session_cluster):
    return {
        "async": session_cluster.create("l-async", *EVERYWHERE, "ACK", "async"),
        "semi-sync:1": session_cluster.create("l-semi", *EVERYWHERE, "ACK", "semi-sync:1"),
        "sync": session_cluster.create("l-sync", *EVERYWHERE, "ACK", "sync"),
    }


def median_ms(client, times):
    client.set("warm", 1)
    took = []
    for n in range(times):
        began = time.monotonic()
        client.set(f"k{n}", n)
        took.append((time.monotonic() - began) * 1000)
    return statistics.median(took)


@pytest.mark.parametrize("rule", ["async", "semi-sync:1"])
def test_a_write_near_the_primary_is_quick(shared, keyspaces, rule):
    median = median_ms(shared.redis("us-1", db=keyspaces[rule]), 200)
    assert median < 10, f"{rule}: {median:.1f} ms"


def test_a_sync_write_takes_the_longest_round_trip(shared, keyspaces):
    median = median_ms(shared.redis("us-1", db=keyspaces["sync"]), 11)
    assert SYNC_MIN_MS <= median <= SYNC_MAX_MS, f"{median:.1f} ms"


READS = {
    "GET": (("GET", "{k}"), None, "new"),
    "STRLEN": (("STRLEN", "{k}"), 0, 3),
    "EXISTS": (("EXISTS", "{k}"), 0, 1),
    "TYPE": (("TYPE", "{k}"), "none", "string"),
    "MGET": (("MGET", "{k}"), [None], ["new"]),
    "SETNX": (("SETNX", "{k}", "mine"), 1, 0),
    "GETSET": (("GETSET", "{k}", "mine"), None, "new"),
    "APPEND": (("APPEND", "{k}", ""), 0, 3),
    "DEL": (("DEL", "{k}"), 0, 1),
}


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize("node", ["us-1", "us-2"])
def test_nobody_sees_a_sync_write_before_it_is_committed(shared, keyspaces, what, node):
    db = keyspaces["sync"]
    key = f"early:{what}:{node}"
    command, old, new = READS[what]
    command = [word.format(k=key) for word in command]
    writer, reader = shared.redis("us-1", db=db), shared.redis(node, db=db)
    writer.ping(), reader.ping()
    wrote = {}

    def write():
        wrote["began"] = time.monotonic()
        writer.set(key, "new")
        wrote["ended"] = time.monotonic()

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.05)
    got = reader.execute_command(*command)
    seen_ms = (time.monotonic() - wrote["began"]) * 1000
    thread.join()
    assert (wrote["ended"] - wrote["began"]) * 1000 >= SYNC_MIN_MS
    assert got in (old, new), got
    if got == new:
        assert seen_ms >= SYNC_MIN_MS, f"seen after {seen_ms:.0f} ms"


def test_keys_are_not_counted_or_listed_before_they_are_committed(shared, keyspaces):
    db = keyspaces["sync"]
    writer, reader = shared.redis("us-1", db=db), shared.redis("us-1", db=db)
    writer.set("counted:0", 1)
    keys = reader.dbsize()
    began = time.monotonic()
    thread = threading.Thread(target=lambda: writer.set("counted:1", 1))
    thread.start()
    time.sleep(0.05)
    size, listed = reader.dbsize(), list(reader.scan_iter(match="counted:*", count=10_000))
    early = (time.monotonic() - began) * 1000 < SYNC_MIN_MS
    thread.join()
    if early:
        assert size == keys and listed == ["counted:0"], (size, keys, listed)
    assert reader.dbsize() == keys + 1


def test_a_pipelined_read_behind_a_sync_write_waits_for_it(shared, keyspaces):
    client = shared.redis("us-1", db=keyspaces["sync"])
    for n in range(3):
        began = time.monotonic()
        pipe = client.pipeline(transaction=False)
        pipe.set("mine", n).get("mine").strlen("mine").ping()
        assert pipe.execute() == [True, str(n), 1, True]
        assert (time.monotonic() - began) * 1000 >= SYNC_MIN_MS


def test_many_sync_writes_share_the_round_trip(shared, keyspaces):
    client = shared.redis("us-1", db=keyspaces["sync"])
    client.delete("hot")
    began = time.monotonic()
    pipe = client.pipeline(transaction=False)
    for _ in range(500):
        pipe.incr("hot")
    assert pipe.execute() == list(range(1, 501))
    assert time.monotonic() - began < 2
