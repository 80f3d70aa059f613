"""Commands that ask for much, on purpose or not: each is bounded before it is done, by an error
that names the bound, and whatever is asked, nobody loses an office and memory stays bounded.

Offices are also lost where the machine lets a node stand still, which is no command's doing: a node
says in its log when its thread was held up, and whether it ran meanwhile.
"""

import pathlib
import re
import socket
import threading

import pytest
import redis

from cluster import NODES, eventually

MB = 1 << 20
WORK = "limits.command_work_max"
US = ["us-1", "us-2", "us-3"]

FIELDS = 300_000
# Of a lease of 500 ms: longer than another process's time slice.
WAITED_MS = 100
# As much as its replies may take together (`limits.reply_memory_bytes`), and what it is made of.
MEMORY_MAX_MB = 512 + 700


@pytest.fixture
def long(shared):
    """A keyspace on three nodes of one region, and at the end nothing has happened to it."""
    name = "long"
    if name not in {facts["name"] for facts in shared.status()["keyspaces"]}:
        shared.create(name, "PLACE", "us=3")
        eventually(lambda: office(shared)[0][1] in US, 10, "it has a primary")
    before = office(shared), resets(shared)
    stalls = machine_stalls(shared)
    keyspace = Long(shared, name)
    yield keyspace
    keyspace.close()
    if machine_stalls(shared) == stalls:
        assert (office(shared), resets(shared)) == before, shared.quire("events")


def office(cluster):
    """Who is primary of what, and since when; of every keyspace."""
    shards = [shard for facts in cluster.status()["keyspaces"] for shard in facts["shards"]]
    return [(s["id"], s["primary"], s["epoch"]) for s in shards]


def resets(cluster):
    """How often a link was given up for what was sent over it."""
    said = [(cluster.dir / node / "log").read_text(errors="replace") for node in NODES]
    return sum(len(re.findall("link reset", text)) for text in said)


def machine_stalls(cluster):
    """How often a node's thread was held up without running, or its disk did not answer."""
    stalls = 0
    for node in NODES:
        said = (cluster.dir / node / "log").read_text(errors="replace")
        held_up = re.findall(r"thread was held up.* late_ms=(\d+) ran_ms=(\d+)", said)
        stalls += sum(int(late) - int(ran) >= WAITED_MS for late, ran in held_up)
        stalls += len(re.findall("the disk of the log answers again", said))
    return stalls


class Long:
    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self.sockets = []
        facts = next(f for f in cluster.status()["keyspaces"] if f["name"] == name)
        self.number = facts["id"]
        self.primary = facts["shards"][0]["primary"]

    def client(self, node=None, **options):
        options.setdefault("socket_timeout", 60)
        options.update(db=self.number, decode_responses=False)
        return self.cluster.redis(node or self.primary, **options)

    def socket(self, node=None):
        """A connection of which nothing is read."""
        sock = socket.create_connection(("127.0.0.1", self.cluster.port(node or self.primary)))
        sock.sendall(b"SELECT %s\r\n" % self.name.encode())
        self.sockets.append(sock)
        return sock

    def memory_mb(self, node=None):
        """The most memory that a node has taken."""
        status = pathlib.Path("/proc", str(self.cluster.pid(node or self.primary)), "status")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) >> 10

    def close(self):
        for sock in self.sockets:
            sock.close()
        self.client().flushdb()


def refused(client, *args):
    with pytest.raises(redis.ResponseError) as refusal:
        client.execute_command(*args)
    return str(refusal.value)


def hash_of(client, key, fields):
    pipe = client.pipeline(transaction=False)
    for first in range(0, fields, 5000):
        pipe.hset(key, mapping={f"f{n}": n for n in range(first, min(first + 5000, fields))})
        if first % 50_000 == 0:
            pipe.execute()
    pipe.execute()


def test_many_large_values_are_not_one_reply(long):
    client = long.client()
    value = b"v" * (10 * MB)
    client.set("big", value)
    assert client.get("big") == value
    assert client.mget("big", "big") == [value, value]
    before = long.memory_mb()
    for times in (20, 400):
        assert WORK in refused(client, "MGET", *["big"] * times)
    assert WORK in refused(client, "BITOP", "XOR", "to", *["big"] * 20)
    assert long.memory_mb() < before + 400


def test_a_large_hash_is_read_in_parts(long):
    client = long.client()
    hash_of(client, "h", FIELDS)
    for command in ("RENAME h to", "COPY h to", "HGETALL h", "HKEYS h", "HVALS h", "DUMP h"):
        assert WORK in refused(client, *command.split())
    found, cursor, calls = set(), 0, 0
    while True:
        cursor, some = client.hscan("h", cursor, count=1000)
        found.update(some)
        calls += 1
        if cursor == 0:
            break
    assert len(found) == FIELDS and calls >= FIELDS / 2000
    assert client.hrandfield("h") in found
    assert len(set(client.hrandfield("h", 100))) == 100
    assert len(client.hrandfield("h", -100)) == 100
    assert client.hlen("h") == FIELDS
    assert client.delete("h") == 1


def test_a_transaction_is_refused_whole(long):
    client = long.client()
    client.set("a", b"ab" * 1500)
    for times in (20, 200):
        pipe = client.pipeline(transaction=True)
        pipe.set("done", 1)
        for _ in range(times):
            pipe.execute_command("LCS", "a", "a", "LEN")
        with pytest.raises(redis.ResponseError, match="nothing of it was done") as refusal:
            pipe.execute()
        assert WORK in str(refusal.value)
    assert client.get("done") is None
    assert client.execute_command("LCS", "a", "a", "LEN") == 3000


def test_patterns_and_lists_of_arguments_are_bounded(long):
    client = long.client()
    key = b"a" * 32_000
    client.set(key, 1)
    assert WORK in refused(client, "KEYS", b"*" + b"?" * 16_000 + b"b")
    assert client.keys(b"*" + b"?" * 100_000) == []
    assert "at most 1024 arguments" in refused(client, "COMMAND", "DOCS", *["get"] * 5000)
    assert "at most 1024 arguments" in refused(client, "CONFIG", "GET", *["*?"] * 50_000)


def test_many_long_commands_at_once_hold_up_nobody(long):
    """Each of them may be done; what of them is one turn's work is bounded."""
    client = long.client()
    # Each a good part of a turn's work, and of a slow build's patience.
    client.set("a", b"ab" * 700)
    client.set("big", b"v" * (10 * MB))

    def ask(node, *args):
        own = long.client(node)
        for _ in range(3):
            pipe = own.pipeline(transaction=False)
            for _ in range(10):
                pipe.execute_command(*args)
            for reply in pipe.execute(raise_on_error=False):
                if not isinstance(reply, int):
                    failed.append(reply)

    failed = []
    asked = [("LCS", "a", "a", "LEN"), ("BITCOUNT", "big"), ("STRLEN", "big")]
    nodes = [long.primary, long.primary, "eu-1", "asia-1"]
    threads = [threading.Thread(target=ask, args=(n, *a)) for n in nodes for a in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_long_reply_goes_through_a_node_without_a_copy(long):
    near, far = long.client(), long.client("eu-1")
    value = b"v" * (15 * MB)
    assert far.set("big", value)
    assert far.get("big") == value == near.get("big")
    for n in range(7):
        near.hset("large", f"f{n}", b"v" * (10 * MB))
    for first in range(0, 1100, 100):
        near.hset("h", mapping={f"f{n}": b"v" * (32 << 10) for n in range(first, first + 100)})
    for client in (near, far):
        assert WORK in refused(client, "HGETALL", "large")
        assert client.hget("large", "f3") == b"v" * (10 * MB)
        assert "a reply has at most 32505856:" in refused(client, "HGETALL", "h")
        assert client.hget("h", "f3") == b"v" * (32 << 10)
    # A reply that is too long is the reason to do nothing.
    pipe = near.pipeline(transaction=True)
    pipe.set("done", 1)
    pipe.hgetall("h")
    with pytest.raises(redis.ResponseError, match="a reply has at most"):
        pipe.execute()
    assert near.get("done") is None
    assert far.get("big") == value


def test_the_largest_values_cost_nobody_an_office(long):
    value = b"v" * (16 * MB - 100)
    for node in (long.primary, "eu-1"):
        client = long.client(node)
        for n in range(12):
            assert client.set(f"big:{n}", value)
            client.append(f"big:{n}", b"v")
        refusal = refused(client, "SET", "big:0", value + b"v" * 100)
        assert "at most 16777216 fit into one command" in refusal
        assert client.strlen("big:0") == len(value) + 1


def test_who_does_not_read_takes_memory_from_nobody(long):
    client = long.client()
    client.set("big", b"v" * (15 * MB))
    for node in (long.primary, "eu-1"):
        for _ in range(30):
            long.socket(node).sendall(b"GET big\r\n" * 10)
    for node in (long.primary, "eu-1"):
        other = long.client(node)

        def answered():
            # Another session may see a replica that has not got it yet.
            return len(other.get("big") or b"") == 15 * MB

        eventually(answered, 60, f"{node} answers somebody else")
        assert long.memory_mb(node) < MEMORY_MAX_MB
