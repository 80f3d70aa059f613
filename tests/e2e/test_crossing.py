"""COPY and MOVE between keyspaces and shards, as redis-py sends them, from nodes in three regions."""

import redis
import pytest

from cluster import EVERYWHERE


@pytest.fixture(scope="module")
def keyspaces(session_cluster):
    """Two keyspaces whose primaries are in different regions; one has four shards."""
    near = session_cluster.create("crossing-us", *EVERYWHERE, "SHARDS", 4)
    far = session_cluster.create("crossing-eu", *EVERYWHERE, "PRIMARY", "eu", "ACK", "sync")
    return near, far


@pytest.mark.parametrize("node", ["us-1", "eu-2", "asia-1"])
def test_keys_are_moved_and_copied(shared, keyspaces, node):
    here, there = (shared.redis(node, db=number, single_connection_client=True) for number in keyspaces)
    p = f"{node}:"
    assert here.move(f"{p}none", keyspaces[1]) == 0
    assert here.set(f"{p}a", "1", ex=100_000) and here.hset(f"{p}h", mapping={"x": "1", "y": "2"}) == 2
    assert here.move(f"{p}a", keyspaces[1]) == 1 and here.move(f"{p}h", keyspaces[1]) == 1
    # The connection that moved it doesn't see it any more; the primaries have it where it is now.
    assert here.get(f"{p}a") is None and here.exists(f"{p}h") == 0
    with there.pipeline() as pipe:
        pipe.watch(f"{p}a", f"{p}h")  # as of the primary's tip
        assert pipe.get(f"{p}a") == "1" and 0 < pipe.ttl(f"{p}a") <= 100_000
        assert pipe.hgetall(f"{p}h") == {"x": "1", "y": "2"}
    # It is there: nothing is moved, nothing copied but in its place.
    assert here.set(f"{p}a", "2") and here.move(f"{p}a", keyspaces[1]) == 0 and here.get(f"{p}a") == "2"
    assert here.copy(f"{p}a", f"{p}a", destination_db=keyspaces[1]) == 0
    assert here.copy(f"{p}a", f"{p}a", destination_db=keyspaces[1], replace=True) == 1
    with there.pipeline() as pipe:
        pipe.watch(f"{p}a")
        assert pipe.get(f"{p}a") == "2" and pipe.ttl(f"{p}a") == -1
    # Within the keyspace, to whichever shard.
    assert [here.copy(f"{p}a", f"{p}copy:{n}") for n in range(12)] == [True] * 12
    assert here.mget([f"{p}copy:{n}" for n in range(12)]) == ["2"] * 12


def test_what_is_refused(shared, keyspaces):
    client = shared.redis("asia-2", db=keyspaces[0], single_connection_client=True)
    client.set("refused", 1)
    for command, told in (
        (("MOVE", "refused", 999), "DB index is out of range"),
        (("MOVE", "refused", "nowhere"), "not an integer"),
        (("MOVE", "refused", "crossing-us"), "objects are the same"),
        (("COPY", "refused", "refused", "DB", keyspaces[0]), "objects are the same"),
    ):
        with pytest.raises(redis.ResponseError, match=told):
            client.execute_command(*command)
    pipe = client.pipeline()
    pipe.move("refused", keyspaces[1])
    with pytest.raises(redis.ResponseError, match="goes to another shard"):
        pipe.execute()
    assert client.get("refused") == "1"


def test_to_a_keyspace_that_was_created_a_moment_ago(shared, keyspaces):
    client = shared.redis("asia-2", db=keyspaces[0], single_connection_client=True)
    assert client.set("new", 1)
    number = shared.create("crossing-new", *EVERYWHERE)
    assert client.execute_command("COPY", "new", "new", "DB", "crossing-new") == 1
    assert client.move("new", number) == 0
    assert shared.redis("us-1", db=number).get("new") == "1"
