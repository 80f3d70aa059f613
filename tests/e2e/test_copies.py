"""A replica whose disk was emptied, filled by a copy while 2,000 writes a second go on."""

import shutil
import threading
import time

import pytest
import redis

from cluster import NODES, eventually

# More than the log keeps for shards that were not written to: four segments of 64 MiB.
KEYS = 360_000
WRITES_A_SECOND = 2000
LIMITS = """[limits]
log_retention_bytes = 33554432
copy_bytes_per_second = 16777216
"""


@pytest.fixture
def primed(cluster):
    """eu-1 and another hold a keyspace whose log has lost its beginning; copies are slow."""
    for node in NODES:
        cluster.kill(node)
        config = cluster.dir / node / "node.toml"
        config.write_text(config.read_text().replace("[limits]\n", LIMITS))
    for node in NODES:
        cluster.server(node)
    for node in NODES:
        eventually(cluster.redis(node).ping, 30, f"{node} answers")
    number = cluster.create("filled", "PLACE", "us=1,eu=1", "ACK", "async", "FAILOVER", "safe")
    [shard] = cluster.shards("filled")
    primary = shard["primary"]
    [replica] = [r["node"] for r in shard["replicas"] if r["node"] != primary]
    client = cluster.redis(primary, db=number)
    for first in range(0, KEYS, 2000):
        client.mset({f"fill:{n}": f"{n}".ljust(1000, "x") for n in range(first, first + 2000)})
    cluster.caught_up("filled", within_s=60)
    return cluster, number, primary, replica


class Load(threading.Thread):
    """Increments a hundred counters, so many times a second, until it is stopped."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.over = client, threading.Event()
        self.began, self.done, self.refused = time.monotonic(), 0, 0

    def run(self):
        while not self.over.is_set():
            due = int((time.monotonic() - self.began) * WRITES_A_SECOND)
            wanted = min(due - self.done - self.refused, 200)
            if wanted < 10:
                time.sleep(0.005)
                continue
            pipeline = self.client.pipeline(transaction=False)
            for n in range(wanted):
                pipeline.incr(f"counter:{(self.done + n) % 100}")
            for answer in pipeline.execute(raise_on_error=False):
                self.refused += isinstance(answer, redis.RedisError)
                self.done += not isinstance(answer, redis.RedisError)


def progress(cluster, primary, replica):
    """The copy that fills the replica, as the primary sees it."""
    [shard] = cluster.shards("filled", node=primary)
    [facts] = [r for r in shard["replicas"] if r["node"] == replica]
    return facts["copy"]


def emptied(cluster, replica):
    cluster.kill(replica)
    shutil.rmtree(cluster.dir / replica / "data")
    cluster.server(replica)


def rate(cluster, node, bytes_per_second):
    assert cluster.redis(node).config_set("copy-bytes-per-second", bytes_per_second)


def is_back(cluster, number, primary, replica, load):
    """Caught up and equal, by one copy, with the writes that were acknowledged meanwhile."""
    there = cluster.redis(replica, db=number)
    info = eventually(
        lambda: (i := there.info("replication"))["copying_shards"] == 0 and i["copies"] and i,
        120,
        f"{replica} is filled",
    )
    assert info["copies"] == 1, info
    a_second = load.done / (time.monotonic() - load.began)
    load.over.set()
    load.join()
    print(f"{load.done} writes, {a_second:.0f} a second, {load.refused} refused")
    cluster.caught_up("filled", within_s=60)
    assert there.dbsize() == KEYS + 100
    counted = sum(int(n) for n in there.mget([f"counter:{n}" for n in range(100)]))
    assert counted >= load.done > 0 and load.refused == 0
    assert progress(cluster, primary, replica) is None


def test_copies(primed):
    """One cluster for both: it takes a while until the log has lost its beginning."""
    an_emptied_disk_under_load(*primed)
    a_copy_whose_connection_is_cut_five_times(*primed)


def an_emptied_disk_under_load(cluster, number, primary, replica):
    load = Load(cluster.redis(primary, db=number))
    load.start()
    emptied(cluster, replica)
    copy = eventually(lambda: progress(cluster, primary, replica), 30, "progress is told")
    assert copy["from"] == primary and copy["keys"] <= (copy["keys_total"] or 0) <= KEYS + 100
    shown = cluster.quire("status", node=primary)
    assert f" on {replica}: " in shown and f"copied from {primary}" in shown, shown
    # An operator is in a hurry.
    rate(cluster, primary, 64 << 20)
    is_back(cluster, number, primary, replica, load)


def a_copy_whose_connection_is_cut_five_times(cluster, number, primary, replica):
    rate(cluster, primary, 16 << 20)
    load = Load(cluster.redis(primary, db=number))
    load.start()
    emptied(cluster, replica)
    seen = 0
    for _ in range(5):

        def goes_on():
            copy = progress(cluster, primary, replica)
            return copy and copy["keys"] > seen and copy

        copy = eventually(goes_on, 30, "the copy goes on")
        assert copy["keys"] < copy["keys_total"], "too fast to be cut"
        seen = copy["keys"]
        for ends in (("us", "eu"), ("eu", "us")):
            cluster.quire("wan", "cut", *ends, node=primary)
        time.sleep(0.7)
        for ends in (("us", "eu"), ("eu", "us")):
            cluster.quire("wan", "heal", *ends, node=primary)
    is_back(cluster, number, primary, replica, load)
