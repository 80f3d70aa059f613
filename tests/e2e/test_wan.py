"""The emulated links: cut, healed, slowed, and known to every node."""

import json
import time

from cluster import NODES, eventually


def links(cluster, node):
    rows = json.loads(cluster.quire("wan", "show", "--json", node=node))["links"]
    return {(row["from"], row["to"]): (row["latency_ms"], row["state"]) for row in rows}


def test_wan(cluster):
    us1 = cluster.redis("us-1")
    readers = {n: cluster.redis(n) for n in NODES}
    for node in NODES:
        seen = links(cluster, node)
        assert seen["us", "asia"] == (200, "up") and seen["us", "eu"] == (100, "up"), seen
        assert seen["eu", "asia"][1] == "up"

    # Asia hears nothing from the others, in no way: it falls behind.
    for far in ("us", "eu"):
        cluster.quire("wan", "cut", far, "asia", node="eu-1")
        cluster.quire("wan", "cut", "asia", far, node="us-3")
    for node in NODES:
        seen = links(cluster, node)
        assert seen["us", "asia"][1] == "cut" and seen["asia", "eu"][1] == "cut", (node, seen)
        assert seen["us", "eu"][1] == "up", (node, seen)
    time.sleep(0.5)
    for n in range(300):
        us1.set("cut", n)
    eventually(lambda: readers["eu-1"].get("cut") == "299", 5, "europe follows")
    assert readers["asia-1"].get("cut") is None
    assert readers["asia-2"].get("cut") is None
    began = time.monotonic()
    assert cluster.status("asia-1")
    assert time.monotonic() - began < 2

    # A node that starts meanwhile starts with the links as they are.
    cluster.kill("asia-2")
    cluster.server("asia-2")
    again = cluster.redis("asia-2")
    eventually(again.ping, 10, "asia-2 answers")
    eventually(lambda: links(cluster, "asia-2")["us", "asia"][1] == "cut", 5, "asia-2 knows")
    us1.set("cut", "still")
    time.sleep(1.5)
    try:
        assert again.get("cut") != "still"
    except Exception as error:
        assert "MASTERDOWN" in str(error), error

    for far in ("us", "eu"):
        cluster.quire("wan", "heal", far, "asia")
        cluster.quire("wan", "heal", "asia", far)
    healed = time.monotonic()
    for n in ("asia-1", "asia-2"):
        eventually(lambda: cluster.redis(n).get("cut") == "still", 8, f"{n} catches up")
    took = time.monotonic() - healed
    assert took < 5, f"{took:.1f} s from healing to caught up"
    cluster.caught_up()


def test_one_way(cluster):
    """What is lost one way: writes reach Asia, and what Asia says does not come back."""
    us1 = cluster.redis("us-1")
    asia = cluster.redis("asia-1")
    cluster.quire("wan", "cut", "asia", "us", node="asia-1")
    seen = links(cluster, "us-2")
    assert seen["asia", "us"][1] == "cut" and seen["us", "asia"][1] == "up"
    us1.set("one-way", 1)
    began = time.monotonic()
    try:
        asia.set("one-way", 2)
        raise AssertionError("a write came through a link that is cut")
    except Exception as error:
        assert str(error).startswith(("NOPRIMARY", "UNKNOWN")), error
    assert time.monotonic() - began < 4
    cluster.quire("wan", "heal", "asia", "us", node="asia-2")
    healed = time.monotonic()
    eventually(lambda: asia.set("one-way", 3), 5, "a write at asia-1")
    assert time.monotonic() - healed < 3
    cluster.caught_up()


def test_between_two_nodes_and_a_new_latency(cluster):
    us1, us2, us3 = (cluster.redis(n) for n in ("us-1", "us-2", "us-3"))
    eu1, eu2 = cluster.redis("eu-1"), cluster.redis("eu-2")
    cluster.quire("wan", "cut", "us-1", "eu-1")
    seen = links(cluster, "asia-1")
    assert seen["us-1", "eu-1"][1] == "cut", seen
    time.sleep(0.3)
    us1.set("pair", 1)
    eventually(lambda: eu2.get("pair") == "1", 3, "eu-2 follows")
    assert eu1.get("pair") is None
    cluster.quire("wan", "heal", "us-1", "eu-1")
    healed = time.monotonic()
    eventually(lambda: eu1.get("pair") == "1", 5, "eu-1 follows")
    assert time.monotonic() - healed < 2.5, time.monotonic() - healed

    cluster.quire("wan", "set", "us", "eu", "400ms")
    for node in NODES:
        assert links(cluster, node)["us", "eu"][0] == 400, node
    time.sleep(0.5)
    us1.set("slow", 1)
    began = time.monotonic()
    eventually(lambda: eu1.get("slow") == "1", 3, "eu-1 follows", every_s=0.01)
    assert 0.3 < time.monotonic() - began < 1.5
    done = cluster.run("wan", "cut", "mars", "us")
    assert done.returncode != 0 and "mars" in done.stderr
    done = cluster.run("wan", "set", "us", "eu", "soon")
    assert done.returncode != 0 and "soon" in done.stderr
    assert links(cluster, "us-1")["us", "eu"] == (400, "up")


def test_a_short_cut_loses_nothing(cluster):
    """Cut and healed, again and again, while writes go on."""
    us1 = cluster.redis("us-1")
    n = 0
    for _ in range(6):
        cluster.quire("wan", "cut", "us", "eu")
        for _ in range(40):
            n += 1
            us1.incr("short")
        time.sleep(0.2)
        cluster.quire("wan", "heal", "us", "eu")
        for _ in range(40):
            n += 1
            us1.incr("short")
    for node in NODES:
        client = cluster.redis(node)
        eventually(lambda: client.get("short") == str(n), 6, f"{node} catches up")
    cluster.caught_up()
