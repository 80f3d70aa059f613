"""Programs written for Redis: redis-py in all its ways, and redis-benchmark."""

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from cluster import EVERYWHERE, NODES, eventually


@pytest.fixture(scope="module")
def keyspaces(session_cluster):
    return {n: session_cluster.create(f"c-{n}", *EVERYWHERE, "SHARDS", n) for n in (1, 4)}


@pytest.fixture(params=[1, 4], ids=["1 shard", "4 shards"])
def db(request, keyspaces):
    return keyspaces[request.param]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("node", ["us-1", "us-2", "asia-1"])
def test_families(shared, db, protocol, decode, node):
    # As a program makes it, with the retries and the introduction that redis-py has by itself.
    r = redis.Redis(port=shared.port(node), db=db, protocol=protocol, decode_responses=decode)
    t = (lambda s: s) if decode else (lambda s: s.encode())
    p = f"f{protocol}{decode}{node}:{{tag}}"
    pipe = r.pipeline(transaction=False)

    def expect(call, value):
        expected.append(value)
        return call

    expected = []
    k, h = f"{p}k", f"{p}h"
    expect(pipe.delete(k, h, f"{p}k2"), 0)
    expect(pipe.set(k, "10"), True)
    expect(pipe.set(k, "11", nx=True), None)
    expect(pipe.get(k), t("10"))
    expect(pipe.set(k, "11", xx=True, get=True), t("10"))
    expect(pipe.incr(k), 12)
    expect(pipe.incrby(k, 8), 20)
    expect(pipe.decr(k), 19)
    expect(pipe.decrby(k, 9), 10)
    expect(pipe.append(k, "0"), 3)
    expect(pipe.strlen(k), 3)
    expect(pipe.getset(k, "x"), t("100"))
    expect(pipe.setnx(k, "y"), False)
    expect(pipe.mset({k: "a", f"{p}k2": "b"}), True)
    expect(pipe.mget(k, f"{p}k2", f"{p}none"), [t("a"), t("b"), None])
    expect(pipe.exists(k, k, f"{p}none"), 2)
    expect(pipe.type(k), t("string"))
    expect(pipe.getdel(f"{p}k2"), t("b"))
    expect(pipe.get(f"{p}k2"), None)
    expect(pipe.hset(h, mapping={"a": 1, "b": "zwei", "ü": "ß"}), 3)
    expect(pipe.hset(h, "a", 2), 0)
    expect(pipe.hget(h, "ü"), t("ß"))
    expect(pipe.hgetall(h), {t("a"): t("2"), t("b"): t("zwei"), t("ü"): t("ß")})
    expect(pipe.hmget(h, "a", "none"), [t("2"), None])
    expect(pipe.hincrby(h, "a", 40), 42)
    expect(pipe.hexists(h, "a"), True)
    expect(pipe.hlen(h), 3)
    expect(pipe.hdel(h, "b", "none"), 1)
    expect(pipe.hsetnx(h, "a", 1), 0)
    expect(pipe.type(h), t("hash"))
    expect(pipe.expire(k, 100), True)
    expect(pipe.persist(k), True)
    expect(pipe.ttl(k), -1)
    expect(pipe.ttl(f"{p}none"), -2)
    expect(pipe.delete(h), 1)
    expect(pipe.hgetall(h), {})
    expect(pipe.unlink(k), 1)
    got = pipe.execute()
    assert len(got) == len(expected)
    for n, (have, want) in enumerate(zip(got, expected)):
        assert have == want, (n, have, want)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        r.set(k, "text")
        r.hget(k, "f")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        r.incr(k)
    with pytest.raises(redis.ResponseError, match="wrong number"):
        r.execute_command("GET")
    with pytest.raises(redis.ResponseError, match="unknown command"):
        r.execute_command("FROBNICATE", "x")
    binary = bytes(range(256)) * 40
    raw = redis.Redis(port=shared.port(node), db=db, protocol=protocol)
    raw.set(f"{p}\x00\r\n$", binary)
    assert raw.get(f"{p}\x00\r\n$") == binary
    assert raw.echo("x") == b"x"
    raw.close(), r.close()


def test_pool(shared):
    client = shared.redis("us-1", max_connections=16, decode_responses=True)
    wrong = []

    def work(n):
        try:
            for m in range(50):
                client.set(f"pool:{n}", m)
                if int(client.get(f"pool:{n}")) != m:
                    wrong.append((n, m))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert not wrong


def test_expiry(shared, db, request):
    primary = shared.shards(f"c-{1 if '1 shard' in request.node.name else 4}")[0]["primary"]
    client = shared.redis(primary, db=db)
    readers = {n: shared.redis(n, db=db) for n in NODES}
    client.set("long", 1, ex=100)
    time.sleep(1.1)
    assert 90 < client.ttl("long") < 100 and 90_000 < client.pttl("long") < 99_500
    for n, reader in readers.items():
        eventually(lambda: 90 < reader.ttl("long") < 100, 5, f"{n} counts down")
    for round_number in range(4):
        client.set("short", round_number, px=200)
        gone_at = time.monotonic() + 0.2
        shown_late, seen = [], set()
        while time.monotonic() < gone_at + 1.2:
            for n, reader in readers.items():
                asked = time.monotonic()
                value = reader.get("short")
                if value == str(round_number):
                    seen.add(n)
                    # Elsewhere it goes with what the primary said last, a link's latency ago.
                    if asked > gone_at + (0.02 if n == primary and "1 shard" in request.node.name else 0.8):
                        shown_late.append((n, asked - gone_at))
                elif n in seen and value is not None:
                    shown_late.append((n, value))
        assert primary in seen and not shown_late, (primary, seen, shown_late)
        for n, reader in readers.items():
            # Gone, and by no way of asking there again.
            assert (reader.get("short"), reader.exists("short"), reader.ttl("short")) == (None, 0, -2), n
            assert "short" not in reader.scan_iter(match="sho*"), n
    # A hash too, and a key whose time was taken away or moved.
    client.hset("hash", "f", 1), client.pexpire("hash", 150)
    client.set("kept", 1, px=150), client.persist("kept")
    client.set("moved", 1, px=150), client.set("moved", 2)
    client.set("past", 1), client.pexpire("past", -1)
    time.sleep(0.8)
    for n, reader in readers.items():
        have = [reader.exists(key) for key in ("hash", "kept", "moved", "past")]
        assert have == [0, 1, 1, 0], (n, have)


def test_ten_thousand_keys(shared, db):
    client = shared.redis("us-1", db=db)
    client.flushdb()
    keys = {f"ten:{n}" for n in range(10_000)}
    for first in range(0, 10_000, 500):
        client.mset({f"ten:{n}": n for n in range(first, first + 500)})
    assert client.dbsize() == 10_000
    assert set(client.scan_iter(count=700)) == keys
    assert set(client.scan_iter(match="ten:123*", count=100)) == {k for k in keys if k.startswith("ten:123")}
    far = shared.redis("asia-1", db=db)
    eventually(lambda: far.dbsize() == 10_000, 10, "asia-1 has all")
    listed = list(far.scan_iter(count=2000))
    assert set(listed) == keys
    some = [f"ten:{n}" for n in range(0, 10_000, 100)]
    for reader in (client, far):
        assert reader.mget(*some, "none") == [k[4:] for k in some] + [None]
        assert reader.exists(*some, "none") == 100
    assert client.delete(*some, "none") == 100
    assert client.exists(*some) == 0 and client.dbsize() == 9_900
    assert client.unlink("ten:1", "none") == 1
    # Keys that stay in place while others come and go are listed all the same.
    seen, cursor = set(), 0
    while True:
        cursor, page = client.scan(cursor, count=500)
        seen.update(page)
        client.delete(*[f"ten:{n}" for n in range(len(seen) % 50, 1000, 50)])
        client.set(f"other:{len(seen)}", 1)
        if cursor == 0:
            break
    assert seen >= {f"ten:{n}" for n in range(1000, 10_000)} - set(some)
    assert client.flushdb() and client.dbsize() == 0
    eventually(lambda: far.dbsize() == 0, 10, "asia-1 is empty")
    assert list(far.scan_iter()) == []


def test_other_commands_must_stay_in_one_shard(shared, keyspaces):
    client = shared.redis("us-1", db=keyspaces[4])
    client.mset({f"x{n}": n for n in range(20)})
    for command in ("RENAME", "RENAMENX"):
        try:
            refused = 0
            for n in range(1, 20):
                try:
                    client.execute_command(command, "x0", f"x{n}")
                    client.execute_command(command, f"x{n}", "x0")
                except redis.ResponseError as error:
                    if "unknown command" in str(error):
                        raise
                    refused += "same shard" in str(error)  # the client strips CROSSSLOT
            assert refused > 5, command
        except redis.ResponseError as error:
            assert "unknown command" in str(error)


def test_benchmark_programs(shared, keyspaces):
    for node, pipeline in (("us-1", 1), ("us-1", 16), ("us-2", 16)):
        done = subprocess.run(
            ["redis-benchmark", "-p", str(shared.port(node)), "-t", "set,get,incr,hset,mset",
             "-n", "4000", "-c", "20", "-P", str(pipeline), "--csv", "-r", "1000",
             "--dbnum", str(keyspaces[4])],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )
        out = done.stdout + done.stderr
        assert done.returncode == 0, out
        assert "rror" not in out and "WARN" not in out, out
        for test in ("SET", "GET", "INCR", "HSET", "MSET"):
            assert f'"{test}' in out, out


def test_cli(shared):
    done = subprocess.run(
        ["redis-cli", "-p", str(shared.port("eu-1"))],
        input="SET cli:1 \"a b\"\nGET cli:1\nHELLO 3\nHSET cli:h f v\nHGETALL cli:h\nINFO replication\n",
        capture_output=True, text=True, timeout=20,
    )
    assert done.returncode == 0 and "a b" in done.stdout and "eu-" in done.stdout, done


def test_small_writes_take_little_memory(shared, keyspaces):
    """A replica keeps recent entries; each shall take what it takes, not what it came in."""

    def resident_mb():
        total = 0
        for node in NODES:
            with open(f"/proc/{shared.pid(node)}/status") as status:
                total += next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        return total // 1000

    before = resident_mb()
    clients = [shared.redis(node, db=keyspaces[4]) for node in NODES[:3] * 4]

    def work(client):
        for n in range(250):
            try:
                client.set(f"small:{n % 10}", n)
            except redis.ResponseError as error:
                # A machine so busy that a node was silent for a second: not the question here.
                assert str(error).startswith("UNKNOWN"), error

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(work, clients))
    grown = resident_mb() - before
    assert grown < 200, f"{grown} MB more on seven nodes for 3000 writes of 100 bytes"


def test_slow_commands_are_listed(shared, keyspaces):
    r = shared.redis("us-2", db=keyspaces[1], client_name="ada")
    r.config_set("slowlog-log-slower-than", 0)
    try:
        r.slowlog_reset()
        r.hset("slow", mapping={"field": "x" * 200})
        r.config_set("slowlog-log-slower-than", 1_000_000)
        slow, reset = r.slowlog_get(10)
        assert slow["command"] == b"HSET slow field " + b"x" * 128 + b"... (72 more bytes)"
        assert slow["id"] == reset["id"] + 1 and slow["client_name"] == b"ada"
        assert 0 <= slow["duration"] < 1_000_000 and abs(slow["start_time"] - time.time()) < 60
        assert reset["command"] == b"SLOWLOG RESET"
        r.set("quick", 1)
        assert r.slowlog_len() == 2
        r.config_set("slowlog-max-len", 1)
        assert [entry["id"] for entry in r.slowlog_get()] == [slow["id"]]
    finally:
        r.config_set("slowlog-log-slower-than", 10_000)
        r.config_set("slowlog-max-len", 128)


def test_what_takes_long_is_noted_by_the_latency_monitor(shared, keyspaces):
    nodes = [shared.redis(name, db=keyspaces[1]) for name in ("us-1", "us-2", "us-3")]
    first = nodes[0]
    assert "monitoring is disabled" in first.execute_command("LATENCY DOCTOR")
    for r in nodes:
        r.config_set("latency-monitor-threshold", 1)
    try:
        # Work that grows with the product of the lengths; one of them has it at hand.
        first.mset({"{lcs}a": "ab" * 2000, "{lcs}b": "ba" * 2000})
        for r in nodes:
            r.lcs("{lcs}a", "{lcs}b", len=True)
        latest = {event: row for r in nodes for event, *row in r.latency_latest()}
        at_s, last_ms, worst_ms = latest["command"]
        assert abs(at_s - time.time()) < 60 and 1 <= last_ms <= worst_ms
        # More than any disk takes in a millisecond.
        first.set("large", b"x" * (15 << 20))
        synced = [r for r in nodes if r.latency_history("log-sync")]
        assert synced and "log-sync" in synced[0].execute_command("LATENCY DOCTOR")
        assert synced[0].latency_reset("log-sync") == 1
        with pytest.raises(redis.ResponseError, match="No samples available for event 'log-sync'"):
            synced[0].execute_command("LATENCY GRAPH", "log-sync")
    finally:
        for r in nodes:
            r.config_set("latency-monitor-threshold", 0)
            r.latency_reset()
