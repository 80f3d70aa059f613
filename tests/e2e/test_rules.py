"""What happens to writes when a replica that their rule counts is missing, and an emptied disk."""

import shutil
import threading
import time

import pytest
import redis

from cluster import EVERYWHERE, NODES, eventually


def degraded(cluster, node):
    """`degraded_shards` of INFO replication."""
    return cluster.redis(node).info("replication")["degraded_shards"]


def place(cluster, name):
    """The primary and the one other of a keyspace of two copies."""
    [shard] = cluster.shards(name)
    [other] = [r["node"] for r in shard["replicas"] if r["node"] != shard["primary"]]
    return shard["primary"], other


def outcome(client):
    """The first word of what a write is answered."""
    try:
        return client.set("k", 2)
    except redis.ResponseError as error:
        return str(error).split(" ")[0]


def test_rules(cluster):
    """One demo for the three: each keyspace has two copies in Europe."""
    options = ("PLACE", "eu=2", "ACK", "semi-sync:1", "TIMEOUT", 500, "ON_TIMEOUT")
    names, numbers, homes = {}, {}, set()
    for rule in ("error", "degrade", "block"):
        # Primaries are spread over the nodes: all three shall have the same.
        for attempt in range(4):
            names[rule] = f"r-{rule}-{attempt}"
            numbers[rule] = cluster.create(names[rule], *options, rule)
            homes.add(place(cluster, names["error"]))
            if place(cluster, names[rule]) in homes:
                break
    [(primary, other)] = homes
    clients = {rule: cluster.redis(primary, db=db) for rule, db in numbers.items()}
    for client in clients.values():
        began = time.monotonic()
        client.set("k", 1)
        assert time.monotonic() - began < 0.3
    assert degraded(cluster, primary) == 0

    cluster.kill(other)

    # The node may have led the control group: without another leader nobody takes writes.
    eventually(lambda: outcome(clients["error"]) == "UNKNOWN", 15, "the rule is waited for")

    # error: the client is told that nobody knows.
    began = time.monotonic()
    with pytest.raises(redis.ResponseError, match="^UNKNOWN"):
        clients["error"].set("k", 2)
    took = time.monotonic() - began
    assert 0.4 < took < 1.5, f"{took:.2f} s"
    # From far away too.
    far = cluster.redis("us-1", db=numbers["error"])
    began = time.monotonic()
    with pytest.raises(redis.ResponseError, match="^UNKNOWN"):
        far.set("k", 3)
    assert time.monotonic() - began < 1.8
    # What is not committed is not shown.
    assert clients["error"].get("k") == "1"
    fresh = cluster.redis(primary, db=numbers["error"])
    assert fresh.get("k") == "1"

    # degrade: it goes on, and says so.
    began = time.monotonic()
    assert clients["degrade"].set("k", 2)
    took = time.monotonic() - began
    assert took < 4, f"{took:.2f} s"
    eventually(lambda: degraded(cluster, primary) == 1, 3, "INFO says degraded_shards:1")
    began = time.monotonic()
    assert clients["degrade"].set("k", 3)
    assert time.monotonic() - began < 0.2
    assert clients["degrade"].get("k") == "3"

    # block: it waits.
    result = []
    waiting = threading.Thread(target=lambda: result.append(clients["block"].set("k", 2)))
    waiting.start()
    time.sleep(3)
    assert not result and cluster.redis(primary, db=numbers["block"]).get("k") == "1"

    cluster.server(other)
    waiting.join(15)
    assert result == [True]
    assert clients["block"].get("k") == "2"
    eventually(lambda: degraded(cluster, primary) == 0, 10, "degraded_shards is 0 again")
    eventually(lambda: clients["error"].set("k", 4), 5, "writes go on")
    for rule in numbers:
        cluster.caught_up(names[rule])
        assert clients[rule].get("k") == {"error": "4", "degrade": "3", "block": "2"}[rule]


@pytest.mark.parametrize("rule", ["quorum", "local-quorum", "semi-sync:1"])
def test_a_rule_is_kept_while_enough_are_there(cluster, rule):
    """One replica of the region less: the others are enough."""
    db = cluster.create("enough", *EVERYWHERE, "ACK", rule)
    [shard] = cluster.shards("enough")
    victim = next(n for n in ("us-2", "us-3", "us-1") if n != shard["primary"])
    client = cluster.redis(shard["primary"], db=db)
    client.set("k", 1)
    cluster.kill(victim)
    for n in range(20):
        began = time.monotonic()
        client.set("k", n)
        assert time.monotonic() - began < 1
    cluster.server(victim)
    cluster.caught_up("enough")
    reader = cluster.redis(victim, db=db)
    eventually(lambda: reader.get("k") == "19", 5, f"{victim} has it")


def test_an_emptied_disk(cluster):
    us1 = cluster.redis("us-1")
    for first in range(0, 20_000, 1000):
        us1.mset({f"fill:{n}": f"{n}" + "x" * 200 for n in range(first, first + 1000)})
    us1.hset("hash", mapping={f"f{n}": n for n in range(1000)})
    us1.set("dies", 1, ex=3600)
    cluster.caught_up()
    cluster.kill("eu-2")
    shutil.rmtree(cluster.dir / "eu-2" / "data")
    us1.set("meanwhile", 1)
    cluster.server("eu-2")
    # Writes go on during the copy.
    for n in range(2000):
        us1.incr("during")
    eu2 = cluster.redis("eu-2")
    eventually(eu2.ping, 60, "eu-2 answers")
    eventually(lambda: eu2.get("during") == "2000", 30, "eu-2 is filled")
    assert eu2.get("fill:19999") == "19999" + "x" * 200 and eu2.get("meanwhile") == "1"
    assert eu2.hlen("hash") == 1000 and eu2.dbsize() == us1.dbsize() and eu2.ttl("dies") > 3000
    cluster.caught_up()
    [shard] = cluster.shards("profiles")
    assert {r["node"] for r in shard["replicas"]} == set(NODES)


def test_an_emptied_disk_that_voted(cluster):
    """asia-1 holds a part of the catalog; emptied, it gets that back too."""
    us1 = cluster.redis("us-1")
    us1.mset({f"k{n}": n for n in range(1000)})
    cluster.kill("asia-1")
    shutil.rmtree(cluster.dir / "asia-1" / "data")
    cluster.server("asia-1")
    asia = cluster.redis("asia-1")
    eventually(asia.ping, 10, "asia-1 answers")
    eventually(lambda: asia.get("k999") == "999", 20, "asia-1 is filled")
    cluster.caught_up()
    cluster.create("after", *EVERYWHERE, node="asia-1")
