"""What client libraries and tools read from a node besides data."""

import socket
import time

import pytest
import redis
from cluster import EVERYWHERE, NODES, eventually

PRIMARY = "us-1"  # of keyspace 0


@pytest.fixture(scope="module")
def keyspaces(session_cluster):
    """Keyspaces of one and of four shards, by their number of shards."""
    return {n: session_cluster.create(f"surface-{n}", *EVERYWHERE, "SHARDS", n) for n in (1, 4)}


class Raw:
    """A connection without a client library."""

    def __init__(self, cluster, node, db=0):
        self.socket = socket.create_connection(("127.0.0.1", cluster.port(node)), timeout=20)
        self.file = self.socket.makefile("rb")
        if db:
            assert self.call(f"SELECT {db}") == "+OK"

    def send(self, *lines):
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def line(self):
        return self.file.readline().decode().rstrip("\r\n")

    def call(self, line):
        self.send(line)
        return self.line()

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def raw(shared):
    opened = []

    def connect(node=PRIMARY, db=0):
        opened.append(Raw(shared, node, db))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def as_double(cursor):
    """What JavaScript makes of a cursor."""
    return int(float(cursor))


@pytest.mark.parametrize("shards", [1, 4])
def test_a_scan_whose_cursors_are_doubles_misses_nothing(shared, keyspaces, shards):
    near, far = (shared.redis(node, db=keyspaces[shards]) for node in (PRIMARY, "eu-1"))
    near.flushdb()
    stay = {f"stay:{n}" for n in range(2000)} | {f"{{one slot}}{n}" for n in range(500)}
    near.mset({key: 1 for key in stay})
    near.mset({f"go:{n}": 1 for n in range(500)})
    eventually(lambda: far.dbsize() == 3000, 20, "eu-1 has all")
    seen, cursor, calls = [], 0, 0
    while True:
        reader = (near, far)[calls % 2]
        text, page = reader.execute_command("SCAN", cursor, "COUNT", 40)
        assert as_double(text) == int(text) < 2**53
        seen += page
        cursor, calls = as_double(text), calls + 1
        near.delete(f"go:{calls}")
        near.set(f"new:{calls}", 1)
        if cursor == 0:
            break
    assert calls >= 3000 / 80
    assert len(seen) == len(set(seen)) and set(seen) >= stay
    found = set(near.scan_iter(match="stay:1?", count=100))
    assert found == {f"stay:{n}" for n in range(10, 20)}
    near.flushdb()


def test_a_scan_of_a_hash_whose_cursors_are_doubles_misses_nothing(shared, keyspaces):
    client = shared.redis(PRIMARY, db=keyspaces[1])
    fields = {f"f{n}": str(n) for n in range(3000)}
    client.hset("h", mapping=fields)
    seen, cursor, calls = [], 0, 0
    while True:
        text, page = client.execute_command("HSCAN", "h", cursor, "COUNT", 50)
        page = list(page) if isinstance(page, dict) else page[::2]
        assert as_double(text) == int(text) < 2**53
        seen += page
        cursor, calls = as_double(text), calls + 1
        client.hset("h", f"new{calls}", "x")
        client.hdel("h", f"new{calls - 1}")
        if cursor == 0:
            break
    assert calls > 10 and len(seen) == len(set(seen)) and set(seen) >= fields.keys()
    assert dict(client.hscan_iter("h", match="f12?", count=100)) == {f"f{n}": str(n) for n in range(120, 130)}
    client.delete("h")


def test_each_keyspace_has_one_primary_whoever_is_asked(shared, keyspaces):
    for db in (0, *keyspaces.values()):
        roles, links = {}, []
        for node in NODES:
            client = shared.redis(node, db=db)
            info = client.info("replication")
            roles[node] = info["role"]
            assert client.execute_command("ROLE")[0] == {"master": b"master", "slave": b"slave"}[info["role"]].decode()
            if info["role"] == "master":
                primary, client_port = node, shared.port(node)
                assert info["connected_slaves"] == len(NODES) - 1
                slaves = [info[f"slave{n}"] for n in range(len(NODES) - 1)]
                assert {s["port"] for s in slaves} == {shared.port(n) for n in NODES if n != node}
                assert all(s["state"] == "online" and 0 <= s["lag"] < 60 for s in slaves)
                replid = info["master_replid"]
            else:
                links.append((info["master_port"], info["master_link_status"], info["master_replid"]))
        assert sorted(roles.values()) == ["master"] + ["slave"] * 6, roles
        assert links == [(client_port, "up", replid)] * 6, (primary, links)


def test_a_name_is_not_needed_where_a_number_is_taken(shared, raw):
    connection = raw()
    reply = connection.call("KEYSPACE CREATE by-url PLACE us=2")
    db = shared.redis(PRIMARY).execute_command("KEYSPACE", "SHOW", "by-url")
    db = db["id"] if isinstance(db, dict) else db[1]
    port = shared.port(PRIMARY)
    assert reply == f"+OK keyspace {db}: SELECT {db}, redis-cli -n {db}, redis://127.0.0.1:{port}/{db}"
    client = redis.Redis.from_url(reply.split()[-1])
    try:
        assert client.set("k", "v") and client.get("k") == b"v"
    finally:
        client.close()
    for container in ("KEYSPACE", "QUIRE"):
        lines = shared.redis(PRIMARY).execute_command(container, "HELP")
        assert len(lines) > 5 and lines[0].startswith(container)
    shared.redis(PRIMARY).execute_command("KEYSPACE", "DROP", "by-url")


def test_info_says_what_tools_read(shared, keyspaces):
    client = shared.redis(PRIMARY, db=keyspaces[1])
    client.flushdb()
    client.config_resetstat()
    client.set("a", 1)
    assert client.get("a") == "1" and client.get("none") is None and client.exists("a", "none") == 1
    with pytest.raises(redis.ResponseError):
        client.execute_command("HGET", "a", "f")
    info = client.info()
    assert info["keyspace_hits"] == 3 and info["keyspace_misses"] == 2
    assert info["used_memory"] > 1 << 20 and info["used_memory_rss"] <= info["used_memory_peak"]
    assert info["total_system_memory"] > info["used_memory"]
    assert (info["maxmemory"], info["maxmemory_policy"]) == (0, "noeviction")
    assert info["used_cpu_user"] + info["used_cpu_sys"] > 0
    assert info["arch_bits"] == 64 and len(info["run_id"]) == 40 and info["os"].startswith("Linux ")
    assert info["cluster_enabled"] == 0 and info["blocked_clients"] == 0
    assert info["aof_last_write_status"] == info["rdb_last_bgsave_status"] == "ok"
    assert abs(info["rdb_last_save_time"] - time.time()) < 60
    assert info["errorstat_WRONGTYPE"]["count"] == 1 == info["total_error_replies"]
    assert info[f"db{keyspaces[1]}"]["keys"] == 1
    assert f"db{keyspaces[4]}" not in info, "of what is empty nothing is said"
    assert "cmdstat_get" not in info
    calls = client.info("commandstats")
    assert calls["cmdstat_get"]["calls"] == 2 and "usec_per_call" in calls["cmdstat_get"]
    client.config_get("timeout")
    assert client.info("everything")["cmdstat_config|get"]["calls"] == 1
    assert info[f"db{keyspaces[1]}"] == {"keys": 1, "expires": 0, "avg_ttl": 0}
    client.set("b", 1, ex=1000)
    client.set("c", 1, px=2_000_000)
    client.set("d", 1, ex=1000)
    client.set("d", 2)

    def counted():
        line = client.info("keyspace")[f"db{keyspaces[1]}"]
        assert (line["keys"], line["expires"]) == (4, 2), line
        return 1_400_000 < line["avg_ttl"] <= 1_500_000

    eventually(counted, 5, "all is in the store")
    both = client.execute_command("INFO", "cpu", "CLUSTER", "nosuch")
    both = both if isinstance(both, str) else client.info("cpu", "cluster")
    text = Raw(shared, PRIMARY)
    text.send("INFO cpu CLUSTER nosuch")
    size = int(text.line()[1:])
    sections = [line for line in text.file.read(size).decode().split("\r\n") if line.startswith("#")]
    text.close()
    assert sections == ["# CPU", "# Cluster"]
    assert client.info("memory")["used_memory"] == pytest.approx(client.memory_stats()["total.allocated"], rel=0.5)
    # Work is seen while it is done.
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(2000):
            pipeline.get("a")
        pipeline.execute()
    eventually(lambda: client.info("stats")["instantaneous_ops_per_sec"] > 0, 5, "commands a second")
    histogram = client.execute_command("LATENCY", "HISTOGRAM", "get")
    assert "get" in histogram


def test_paused_clients_wait_and_go_on_in_order(shared, raw):
    client, operator = raw(), raw()
    assert client.call("SET paused 0") == "+OK"
    assert operator.call("CLIENT PAUSE 60000 WRITE") == "+OK"
    client.send("GET paused", "INCR paused", "INCR paused", "GET paused")
    assert (client.line(), client.line()) == ("$1", "0")
    client.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.socket.recv(1, socket.MSG_PEEK)
    client.socket.settimeout(20)
    other = raw()
    assert other.call("GET paused") == "$1" and other.line() == "0"
    assert operator.call("CLIENT UNPAUSE") == "+OK"
    assert [client.line() for _ in range(4)] == [":1", ":2", "$1", "2"]
    assert operator.call("CLIENT PAUSE 300") == "+OK"
    assert other.call("PING") == "+PONG", "by itself, once the time is over"
    for wrong in ("CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 1 BOGUS"):
        assert operator.call(wrong).startswith("-ERR ")


def test_replies_that_are_not_wanted_are_not_sent(raw):
    client = raw()
    client.send("CLIENT REPLY OFF", "SET muted 1", "NOSUCH", "GET muted", "CLIENT REPLY ON", "GET muted")
    assert [client.line() for _ in range(3)] == ["+OK", "$1", "1"]
    client.send("CLIENT REPLY SKIP", "INCR muted", "INCR muted", "CLIENT REPLY SKIP", "NOSUCH", "PING")
    assert [client.line() for _ in range(2)] == [":3", "+PONG"]
    # Also where commands travel, and have to wait for each other.
    far = raw("asia-1")
    far.send("CLIENT REPLY SKIP", "INCR muted", "GET muted")
    assert [far.line() for _ in range(2)] == ["$1", "4"]
    far.send("SET muted x", "CLIENT REPLY SKIP", "WAIT 0 100", "PING")
    assert [far.line() for _ in range(2)] == ["+OK", "+PONG"]


def test_idle_clients_are_closed_when_asked(shared, raw):
    idle, operator = raw(), raw()
    operator.send("CONFIG SET timeout 1")
    assert operator.line() == "+OK"
    try:
        assert idle.socket.recv(1) == b"", "it is closed"
    finally:
        again = raw()
        assert again.call("CONFIG SET timeout 0") == "+OK"
    assert again.call("CONFIG SET timeout 0 timeout 0").endswith("duplicate parameter")


def test_monitors_see_commands_without_passwords_and_are_bounded(shared, raw):
    monitor, client = raw(), raw()
    assert monitor.call("MONITOR") == "+OK"
    client.send("AUTH default secret", r'SET "a b" "\\\""', "HELLO 2 AUTH default secret")
    lines = [monitor.line() for _ in range(3)]
    assert '"AUTH" "(redacted)" "(redacted)"' in lines[0]
    assert lines[1].endswith(r'"SET" "a b" "\\\""'), lines[1]
    assert '"HELLO" "2" "AUTH" "(redacted)" "(redacted)"' in lines[2]
    # One that reads nothing holds no more than its bound.
    flood = shared.redis(PRIMARY)
    for _ in range(30):
        with flood.pipeline(transaction=False) as pipeline:
            for n in range(1000):
                pipeline.set(f"flood:{n % 10}", "x" * 120)
            pipeline.execute()
    held = [c for c in flood.client_list() if c["flags"] == "O"]
    assert len(held) == 1 and int(held[0]["tot-mem"]) < 4 << 20, held
    monitor.socket.settimeout(20)
    seen = ""
    while "are left out" not in seen:
        # What it reads makes room, and the next command tells of the gap.
        seen = monitor.line()
        if "flood:9" in seen:
            flood.ping()


def test_what_was_written_is_saved(raw):
    client = raw()
    client.send("SET saved 1", "SAVE", "LASTSAVE", "BGSAVE", "BGREWRITEAOF")
    assert [client.line() for _ in range(2)] == ["+OK", "+OK"]
    assert abs(int(client.line()[1:]) - time.time()) < 60
    assert client.line() == "+Background saving started"
    assert client.line().startswith("+Background append only file")
    before = int(client.call("LASTSAVE")[1:])
    eventually(lambda: int(client.call("LASTSAVE")[1:]) > before, 20, "a later save")


def test_watched_keys_that_never_were_are_not_changed_by_a_flush(shared, keyspaces):
    client, other = (shared.redis(PRIMARY, db=keyspaces[1]) for _ in range(2))
    for there in (False, True):
        client.delete("w")
        if there:
            client.set("w", 1)
        with client.pipeline() as pipeline:
            pipeline.watch("w")
            other.flushdb()
            pipeline.multi()
            pipeline.set("w", 2)
            if there:
                with pytest.raises(redis.WatchError):
                    pipeline.execute()
            else:
                assert pipeline.execute() == [True]


def test_slow_commands_are_kept_without_passwords(raw):
    client = raw()
    assert client.call("CONFIG SET slowlog-log-slower-than 0") == "+OK"
    try:
        client.send("AUTH default hunter2", "HELLO 2 AUTH default hunter2 SETNAME x", "SLOWLOG GET 5", "PING")
        text = ""
        while "PONG" not in text:
            text += client.line()
    finally:
        client.call("CONFIG SET slowlog-log-slower-than 10000")
    assert "(redacted)" in text and "hunter2" not in text


def test_long_patterns_end_soon(shared, keyspaces):
    client = shared.redis(PRIMARY, db=keyspaces[1])
    client.flushdb()
    client.set("k" * 32_000, 1)
    other = shared.redis(PRIMARY)
    for pattern in ("*?" * 50_000, "*[" + "a" * 60_000, "*" + "?" * 20_000 + "x"):
        began = time.monotonic()
        try:
            assert client.keys(pattern) in ([], ["k" * 32_000])
        except redis.ResponseError as error:
            assert "takes more work than a command may" in str(error)
        assert other.ping() and time.monotonic() - began < 20
    for command in ("COMMAND LIST FILTERBY PATTERN", "CONFIG GET"):
        with pytest.raises(redis.ResponseError, match="takes too much work"):
            client.execute_command(*command.split(), "*[" + "a" * 60_000)
    client.flushdb()


def test_what_can_never_be_done_is_not_to_be_tried_again(shared):
    client = shared.redis(PRIMARY)
    for command in (["SETBIT", "k", 4294967295, 1], ["SETRANGE", "k", 536870910, "x"]):
        with pytest.raises(redis.ResponseError) as error:
            client.execute_command(*command)
        assert "try again" not in str(error.value), error.value
