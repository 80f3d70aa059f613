"""A node's wall clock is wrong: keys live as long as they are to all the same.

The servers read by how much their wall clocks are to look ahead from files (QUIRE_TEST_CLOCKS,
for tests alone): the machine's own clock is everybody's, and is left alone. What is waited for is
counted by this process's clock.
"""

import json
import time

import pytest
import redis

from cluster import eventually

HOUR_MS = 3_600_000
PRIMARY = "us-1"


@pytest.fixture
def clocks(set_clock, unstarted):
    """A cluster, and what sets the wall clocks of its nodes."""
    return unstarted.start(), set_clock


def clock_events(cluster, node):
    events = json.loads(cluster.quire("events", "--json", node=node))["events"]
    return [e["text"] for e in events if e["kind"] == "clock"]


def lives_as_long_as_it_is_to(cluster, node, key):
    """A key of three seconds: it goes then, and not before."""
    client = cluster.redis(node)
    began = time.monotonic()
    assert client.set(key, "v", px=3000)
    left = client.pttl(key)
    took = time.monotonic() - began
    assert left == -2 and took > 2.5 or 0 < left <= 3000, f"{node}: {left} ms left after {took:.1f} s"
    eventually(lambda: client.get(key) is None, 15, f"{key} is gone at {node}")
    assert time.monotonic() - began > 2.5, f"{key} went too early at {node}"


@pytest.mark.parametrize("off", [HOUR_MS, -HOUR_MS])
def test_an_hour_off_for_a_second(clocks, off):
    cluster, set_clock = clocks
    client = cluster.redis(PRIMARY)
    assert client.set("kept", "v", ex=600)
    now_s = client.time()[0]
    set_clock(PRIMARY, off)
    time.sleep(0.3)
    assert client.set("meanwhile", "v", ex=5)
    assert client.set("until", "v") and client.expireat("until", now_s + 300)
    assert client.get("until") == "v", "a moment five minutes away is over"
    assert abs(client.time()[0] - now_s) < 60
    time.sleep(0.7)
    set_clock(PRIMARY, 0)
    lives_as_long_as_it_is_to(cluster, PRIMARY, "afterwards")
    eventually(lambda: client.get("meanwhile") is None, 15, "a key of five seconds is gone")
    assert client.get("kept") == "v" and client.get("until") == "v"
    assert 400 < client.ttl("kept") <= 600
    eventually(lambda: clock_events(cluster, PRIMARY), 10, "an event says it")
    # Another primary, and this one once more.
    cluster.kill(PRIMARY)
    other = cluster.redis("us-2")

    def writes(client):
        try:
            return client.set("k", "v")
        except redis.ResponseError as error:
            raise AssertionError(error) from error

    eventually(lambda: writes(other), 30, "another takes its place")
    lives_as_long_as_it_is_to(cluster, "us-2", "after the failover")
    cluster.server(PRIMARY)
    eventually(lambda: writes(cluster.redis(PRIMARY)), 30, f"{PRIMARY} is back")
    lives_as_long_as_it_is_to(cluster, PRIMARY, "after the start")


def test_a_clock_that_is_wrong_from_the_start(clocks):
    """The node says so, and takes the time of the others before it takes an office."""
    cluster, set_clock = clocks
    client = cluster.redis(PRIMARY)
    assert client.set("kept", "v", ex=600)
    cluster.caught_up()
    cluster.kill(PRIMARY)
    set_clock(PRIMARY, HOUR_MS)
    cluster.server(PRIMARY)
    client = cluster.redis(PRIMARY)
    eventually(lambda: any("ahead" in t for t in clock_events(cluster, "us-2")), 30, "it is said")
    assert abs(client.time()[0] - time.time()) < 60
    # The last of its region, so that it is named.
    cluster.kill("us-2", "us-3")

    def writes():
        try:
            return client.set("k", "v")
        except redis.ResponseError as error:
            raise AssertionError(error) from error

    eventually(writes, 40, "writes go on")
    lives_as_long_as_it_is_to(cluster, PRIMARY, "afterwards")
    assert client.get("kept") == "v"
