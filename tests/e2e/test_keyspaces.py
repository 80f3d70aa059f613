"""Keyspaces: made, chosen at once on every node, listed, dropped; nonsense is refused."""

import time

import pytest
import redis

from cluster import EVERYWHERE, NODES, eventually


@pytest.mark.parametrize("node", ["us-1", "us-3", "asia-2"])
def test_a_keyspace_can_be_chosen_everywhere_once_it_is_created(shared, node):
    by_name = {n: shared.redis(n, single_connection_client=True) for n in NODES}
    by_number = {n: shared.redis(n, single_connection_client=True) for n in NODES}
    for client in [*by_name.values(), *by_number.values()]:
        client.ping()
    creator = shared.redis(node)
    name = f"made-at-{node}"
    began = time.monotonic()
    assert creator.execute_command("KEYSPACE", "CREATE", name, *EVERYWHERE, "SHARDS", 2)
    took = time.monotonic() - began
    # The number is the next free one; it is asked for only after every node has chosen by name.
    for n, client in by_name.items():
        assert client.execute_command("SELECT", name), n
    facts = by_name["us-1"].execute_command("KEYSPACE", "SHOW", name)
    number = facts[facts.index("id") + 1]
    for n, client in by_number.items():
        assert client.execute_command("SELECT", number), n
    for n, client in by_name.items():
        assert client.set(f"from:{n}", n)
        assert client.get(f"from:{n}") == n
    for n, client in by_number.items():
        assert eventually(lambda: client.dbsize() == len(NODES), 5, f"{n} has all keys")
    assert shared.redis("us-1", db=0).exists("from:us-1") == 0
    assert took < 5, f"creating took {took:.1f} s"


def test_at_once_by_number(shared):
    clients = {n: shared.redis(n, single_connection_client=True) for n in NODES}
    for client in clients.values():
        client.ping()
    listed = clients["us-1"].execute_command("KEYSPACE", "LIST")
    last = max(entry[entry.index("id") + 1] for entry in listed)
    clients["eu-1"].execute_command("KEYSPACE", "CREATE", "by-number", *EVERYWHERE)
    for n, client in clients.items():
        assert client.execute_command("SELECT", last + 1), n


def test_the_life_of_a_keyspace(shared):
    out = shared.quire(
        "keyspace", "create", "life", "ACK", "semi-sync:1", "PLACE", "us=2,eu=1", "SHARDS", 4,
        "ON_TIMEOUT", "error", "TIMEOUT", 700,
    )
    assert "life" in out or out == ""
    assert "life" in shared.quire("keyspace", "list", node="asia-1")
    shown = shared.quire("keyspace", "show", "life", node="eu-2")
    for word in ("semi-sync:1", "us=2,eu=1", "error", "700", "4"):
        assert word in shown, shown
    shards = shared.shards("life")
    assert len(shards) == 4
    for shard in shards:
        homes = sorted(r["node"].split("-")[0] for r in shard["replicas"])
        assert homes == ["eu", "us", "us"] and shard["primary"].startswith("us-"), shard
    # A node that holds no replica takes commands all the same.
    client = shared.redis("asia-1", single_connection_client=True)
    client.execute_command("SELECT", "life")
    for n in range(20):
        client.set(f"k{n}", n)
    assert [client.get(f"k{n}") for n in range(20)] == [str(n) for n in range(20)]
    with pytest.raises(redis.ResponseError, match="exists"):
        client.execute_command("KEYSPACE", "CREATE", "life", *EVERYWHERE)
    shared.quire("keyspace", "drop", "life", "--yes")
    for node in NODES:
        eventually(
            lambda: "life" not in shared.quire("keyspace", "list", node=node), 3, f"{node} dropped it"
        )
    with pytest.raises(redis.ResponseError, match="NOKEYSPACE"):
        client.get("k1")
    other = shared.redis("us-1", single_connection_client=True)
    with pytest.raises(redis.ResponseError, match="no keyspace"):
        other.execute_command("SELECT", "life")
    # The name is free, and nothing of the old data is there.
    shared.create("life", *EVERYWHERE)
    other.execute_command("SELECT", "life")
    assert other.dbsize() == 0 and other.get("k1") is None


NONSENSE = {
    "region": (["x", "PLACE", "mars=1"], ["mars", "asia, eu, us"]),
    "replicas": (["x", "PLACE", "us=4"], ["us", "3 nodes", "4"]),
    "k": (["x", "PLACE", "us=3", "ACK", "semi-sync:3"], ["semi-sync:3", "k = 2"]),
    "k in another region": (["x", "PLACE", "us=3,eu=1", "ACK", "semi-sync:2@eu"], ["eu"]),
    "k of zero": (["x", "PLACE", "us=3", "ACK", "semi-sync:0"], ["semi-sync:0"]),
    "rule": (["x", "PLACE", "us=3", "ACK", "all"], ["ACK 'all'", "async"]),
    "upper case": (["Profiles", "PLACE", "us=1"], ["Profiles", "a-z"]),
    "empty name": (["", "PLACE", "us=1"], ["a-z"]),
    "long name": (["n" * 65, "PLACE", "us=1"], ["64"]),
    "blank in name": (["a b", "PLACE", "us=1"], ["a b", "a-z"]),
    "argument": (["x", "PLACE", "us=1", "COLOUR", "red"], ["COLOUR", "KEYSPACE CREATE name"]),
    "no placement": (["x"], ["PLACE"]),
    "no value": (["x", "PLACE"], ["PLACE", "value"]),
    "twice": (["x", "PLACE", "us=1", "PLACE", "us=1"], ["PLACE", "twice"]),
    "primary elsewhere": (["x", "PLACE", "us=1", "PRIMARY", "eu"], ["eu"]),
    "shards": (["x", "PLACE", "us=1", "SHARDS", "0"], ["SHARDS", "1024"]),
    "timeout": (["x", "PLACE", "us=1", "TIMEOUT", "soon"], ["TIMEOUT", "milliseconds"]),
    "no replicas": (["x", "PLACE", "us=0"], ["us=0"]),
    "topology": (["x", "PLACE", "us=1", "TOPOLOGY", "ring"], ["ring", "primary-replica"]),
    "name of a number": (["7", "PLACE", "us=1"], ["7"]),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_refused_with_what_would_be_right(shared, case):
    words, told = NONSENSE[case]
    client = shared.redis("us-2")
    before = client.execute_command("KEYSPACE", "LIST")
    with pytest.raises(redis.ResponseError) as refused:
        client.execute_command("KEYSPACE", "CREATE", *words)
    for part in told:
        assert part in str(refused.value), refused.value
    assert client.execute_command("KEYSPACE", "LIST") == before
    done = shared.run("keyspace", "create", *words)
    assert done.returncode in (1, 2) and done.stderr.strip(), done


def test_what_is_not_there_is_said(shared):
    client = shared.redis("eu-1", single_connection_client=True)
    for command in [("SELECT", "nowhere"), ("SELECT", "999"), ("KEYSPACE", "SHOW", "nowhere"),
                    ("KEYSPACE", "DROP", "nowhere"), ("QUIRE", "VERIFY", "nowhere")]:
        with pytest.raises(redis.ResponseError, match="no keyspace"):
            client.execute_command(*command)
    assert client.ping()
    for container in ("KEYSPACE", "QUIRE"):
        with pytest.raises(redis.ResponseError, match="wrong number of arguments for "):
            client.execute_command(container)
    for command in ["KEYSPACE FROB", "KEYSPACE DROP", "KEYSPACE LIST x", "QUIRE FROB", "QUIRE VERIFY", "QUIRE SCRUB x"]:
        with pytest.raises(redis.ResponseError, match=f"^use {command.split()[0]} "):
            client.execute_command(*command.split())
