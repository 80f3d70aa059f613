"""MULTI, EXEC and WATCH as redis-py uses them: its default pipeline, and optimistic locking."""

import threading

import pytest
import redis

from cluster import EVERYWHERE

CLIENTS, ROUNDS = 6, 15


@pytest.fixture(scope="module")
def keyspaces(session_cluster):
    return {n: session_cluster.create(f"t-{n}", *EVERYWHERE, "SHARDS", n) for n in (1, 4)}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("node", ["us-1", "us-2", "asia-1"])
def test_the_default_pipeline(shared, keyspaces, node, shards, protocol):
    r = redis.Redis(port=shared.port(node), db=keyspaces[shards], protocol=protocol, decode_responses=True)
    p = f"{{{node}{protocol}}}"
    pipe = r.pipeline()
    pipe.set(f"{p}a", 1).incr(f"{p}a").hset(f"{p}h", mapping={"x": "1", "y": "2"}).hgetall(f"{p}h").get(f"{p}none")
    assert pipe.execute() == [True, 2, 2, {"x": "1", "y": "2"}, None]
    # One fails, the others are done.
    pipe.incr(f"{p}a").incr(f"{p}h").incr(f"{p}a")
    replies = pipe.execute(raise_on_error=False)
    assert replies[0] == 3 and replies[2] == 4
    assert isinstance(replies[1], redis.ResponseError) and str(replies[1]).startswith("WRONGTYPE")
    # One is refused, nothing is done.
    pipe.incr(f"{p}a").execute_command("NOSUCH")
    with pytest.raises(redis.ResponseError):
        pipe.execute()
    assert r.get(f"{p}a") == "4"
    r.close()


def test_keys_of_several_shards_are_refused(shared, keyspaces):
    r = redis.Redis(port=shared.port("us-1"), db=keyspaces[4])
    pipe = r.pipeline()
    for n in range(20):
        pipe.set(f"key{n}", n)
    with pytest.raises(redis.ResponseError, match="Keys in a transaction"):
        pipe.execute()
    assert not r.exists(*(f"key{n}" for n in range(20)))


def test_optimistic_locking_counts_every_client(shared, keyspaces):
    """Clients in several regions increment by WATCH, GET, SET: nothing is counted twice or lost."""
    failed = []

    def increment(client):
        for _ in range(ROUNDS):
            with client.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch("counter")
                        value = int(pipe.get("counter") or 0)
                        pipe.multi()
                        pipe.set("counter", value + 1)
                        pipe.execute()
                        break
                    except redis.WatchError:
                        continue

    def run(node):
        try:
            with redis.Redis(port=shared.port(node), db=keyspaces[1]) as client:
                increment(client)
        except Exception as error:  # noqa: BLE001: told by the test
            failed.append((node, error))

    nodes = ["us-1", "us-2", "us-3", "us-1", "us-2", "us-3"][:CLIENTS]
    threads = [threading.Thread(target=run, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    with redis.Redis(port=shared.port("eu-1"), db=keyspaces[1]) as client:
        pipe = client.pipeline()
        pipe.watch("counter")  # as of the primary's tip
        assert int(pipe.get("counter")) == CLIENTS * ROUNDS
