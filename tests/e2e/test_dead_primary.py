"""The primary's process dies, and nobody may take its place (`FAILOVER safe` where the rule
promises nothing without it): writes are refused in time, reads go on, and it comes back."""

import os
import signal
import threading
import time

import pytest
import redis

from cluster import EVERYWHERE, NODES, eventually


def safe(cluster):
    """The number of such a keyspace, and the node of its primary."""
    db = cluster.create("safe", *EVERYWHERE, "ACK", "async", "FAILOVER", "safe")
    return db, cluster.shards("safe")[0]["primary"]


def test_dead_primary(cluster):
    db, victim = safe(cluster)
    cluster.redis(victim, db=db).mset({f"k{n}": n for n in range(500)})
    others = {n: cluster.redis(n, db=db) for n in NODES if n != victim}
    near = next(n for n in others if n.startswith("us"))
    for n, client in others.items():
        eventually(lambda: client.get("k499") == "499", 5, f"{n} has it")
    cluster.kill(victim)
    killed = time.monotonic()
    # At once, when nobody knows yet, and later.
    for attempt in range(4):
        for n in (near, "asia-1"):
            began = time.monotonic()
            with pytest.raises(redis.ResponseError, match="NOPRIMARY|UNKNOWN"):
                others[n].set("k0", "new")
            took = time.monotonic() - began
            assert took < 1.3, f"{n}: {took:.2f} s, attempt {attempt}"
        for n, client in others.items():
            began = time.monotonic()
            assert client.get("k7") == "7", n
            assert time.monotonic() - began < 1, n
        for n in others:
            began = time.monotonic()
            status = cluster.status(n)
            assert time.monotonic() - began < 2, n
            if time.monotonic() - killed > 2.5:
                assert {i["id"]: i["state"] for i in status["nodes"]}[victim] == "down", n
    # A read that follows a refused write on its connection is answered too.
    with pytest.raises(redis.ResponseError):
        others["eu-1"].set("k1", "new")
    assert others["eu-1"].get("k1") == "1"
    assert f"node {victim} is gone" in cluster.said() and cluster.demo.poll() is None
    # New connections as well.
    assert cluster.redis("eu-2", db=db).get("k9") == "9"

    cluster.server(victim)
    for n in (near, "asia-1", victim):
        client = cluster.redis(n, db=db)
        eventually(lambda: client.set(f"back:{n}", n), 15, f"writes at {n} go on")
    for n in NODES:
        client = cluster.redis(n, db=db)
        eventually(lambda: client.get(f"back:{victim}") == victim, 10, f"{n} catches up")
        assert client.mget("k0", "k7", "k499")[1:] == ["7", "499"]
    cluster.caught_up("safe")
    assert cluster.shards("safe")[0]["primary"] == victim
    states = {i["id"]: i["state"] for i in cluster.status("asia-2")["nodes"]}
    assert set(states.values()) == {"up"}, states


def test_a_stopped_primary_is_no_different(cluster):
    """SIGSTOP: its connections stay, and nobody answers."""
    db, victim = safe(cluster)
    cluster.redis(victim, db=db).set("s", 1)
    near = next(n for n in ("us-2", "us-3") if n != victim)
    others = {n: cluster.redis(n, db=db) for n in (near, "asia-1")}
    for n, client in others.items():
        eventually(lambda: client.get("s") == "1", 5, n)
    pid = cluster.pid(victim)
    os.kill(pid, signal.SIGSTOP)
    try:
        for attempt in range(3):
            for n, client in others.items():
                began = time.monotonic()
                with pytest.raises(redis.ResponseError, match="NOPRIMARY|UNKNOWN"):
                    client.set("s", 2)
                limit = 3 if attempt == 0 else 1.3
                assert time.monotonic() - began < limit, (n, attempt, time.monotonic() - began)
                assert client.get("s") in "12"
                assert cluster.status(n)
    finally:
        os.kill(pid, signal.SIGCONT)
    for n, client in others.items():
        eventually(lambda: client.set("s", 3), 15, f"writes at {n} go on")
    cluster.caught_up("safe")


def test_primary_restarts_over_and_over_under_load(cluster):
    """Writes from everywhere while the primary comes and goes: none that was acknowledged is lost."""
    db, victim = safe(cluster)
    over = threading.Event()
    acknowledged, unknown = {}, {}

    def write(n, node):
        client = cluster.redis(node, socket_timeout=5, db=db)
        while not over.is_set():
            unknown[n] = unknown.get(n, 0) + 1
            try:
                acknowledged[n] = client.incr(f"load:{n}")
            except redis.ResponseError as error:
                if str(error).startswith(("NOPRIMARY", "BUSY", "TRYAGAIN")):
                    unknown[n] -= 1
            except redis.RedisError:
                time.sleep(0.02)

    threads = [
        threading.Thread(target=write, args=(n, node), daemon=True)
        for n, node in enumerate(["us-1", "us-2", "us-3", "eu-1", "asia-1", victim])
    ]
    [t.start() for t in threads]
    time.sleep(1)
    for _ in range(3):
        cluster.kill(victim)
        time.sleep(0.7)
        cluster.server(victim)
        before = dict(acknowledged)
        eventually(lambda: acknowledged.get(5, 0) > before.get(5, 0), 15, "writes go on")
        time.sleep(1)
    over.set()
    [t.join(10) for t in threads]
    client = cluster.redis(victim, db=db)
    for n, count in acknowledged.items():
        value = int(client.get(f"load:{n}"))
        assert count <= value <= unknown[n], (n, count, value, unknown[n])
    cluster.caught_up("safe")
