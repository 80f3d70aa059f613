"""WAIT counts the copies that hold this connection's writes."""

import time

import pytest

from cluster import EVERYWHERE


@pytest.fixture(scope="module")
def db(session_cluster):
    return session_cluster.create("waits", *EVERYWHERE)


def test_copies_nearby(shared, db):
    client = shared.redis("us-1", db=db, single_connection_client=True)
    for n in range(5):
        client.set("w", n)
        began = time.monotonic()
        assert client.wait(2, 1000) >= 2
        assert time.monotonic() - began < 0.5


def test_all_copies_take_a_round_trip(shared, db):
    client = shared.redis("us-1", db=db, single_connection_client=True)
    client.set("w", "all")
    began = time.monotonic()
    assert client.wait(6, 1) < 6
    assert time.monotonic() - began < 0.3
    assert client.wait(6, 5000) == 6
    assert 0.3 < time.monotonic() - began < 2
    assert client.wait(6, 5000) == 6
    # More than there are: what there is, when the time is over.
    client.set("w", "more")
    began = time.monotonic()
    assert client.wait(7, 1000) == 6
    assert 0.9 < time.monotonic() - began < 2


@pytest.mark.parametrize("node", ["us-2", "asia-1"])
def test_from_elsewhere(shared, db, node):
    client = shared.redis(node, db=db, single_connection_client=True)
    client.set("w", node)
    assert client.wait(2, 2000) >= 2
    pipe = client.pipeline(transaction=False)
    pipe.set("w", "again").execute_command("WAIT", 6, 5000)
    pipe.get("w")
    assert pipe.execute() == [True, 6, "again"]
    began = time.monotonic()
    client.set("w", "late")
    client.wait(6, 1)
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("node", ["us-1", "asia-1"])
def test_without_writes_every_replica_has_everything(shared, db, node):
    assert shared.redis(node, db=db, single_connection_client=True).wait(6, 1000) == 6
