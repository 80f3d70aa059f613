"""Keys come from a running redis-server and from its snapshots, and go back, exactly."""

import contextlib
import json
import os
import signal
import subprocess
import threading

import pytest
import redis

from cluster import BASE_PORT, BINARY, eventually
from writers import Writer

REDIS_PORT = BASE_PORT + 100
KEYS = 20_000
YEAR_2100_MS = 4_102_444_800_000
# What a hash that is not complete expires at (transfer::UNFINISHED_MS).
UNFINISHED_MS = 6_999_999_999_999_999
OTHERS = {"list": 3, "set": 2, "sorted set": 2, "stream": 1}
LARGE_FIELDS = 20_000


@contextlib.contextmanager
def redis_server(directory, port=REDIS_PORT, *options, password=None):
    directory.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", directory,
         "--dbfilename", "dump.rdb", *options, *(["--requirepass", password] if password else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    client = redis.Redis(port=port, password=password, socket_timeout=60)
    try:
        eventually(client.ping, 20, "redis-server answers")
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(20)


def value(n):
    return [
        str(n * 7919 - 50_000_000).encode(),
        b"text %d" % n,
        bytes([n % 256, 0, 13, 10, 255]) * (n % 40),
        b"abcdef" * (n % 300),
    ][n % 4]


def fill(client):
    """20,000 strings and hashes, a third of which expire, and some of what Quire has not."""
    pipe = client.pipeline(transaction=False)
    for n in range(KEYS - 1):
        key = b"key:%d\x00\xff" % n if n % 100 == 0 else b"key:%d" % n
        if n % 2:
            pipe.set(key, value(n))
        else:
            fields = 300 if n % 1_000 == 0 else n % 13 + 1
            pipe.hset(key, mapping={b"field:%d" % f: value(n + f) for f in range(fields)})
        if n % 3 == 0:
            pipe.pexpireat(key, YEAR_2100_MS + n)
        if n % 1_000 == 999:
            pipe.execute()
    pipe.hset("large", mapping={f"field:{n}": "x" * 300 for n in range(LARGE_FIELDS)})
    pipe.pexpireat("large", YEAR_2100_MS)
    for n in range(3):
        pipe.rpush(f"list:{n}", *range(50 * n + 1))
    for n in range(2):
        pipe.sadd(f"set:{n}", *range(5), *("m" * n for n in range(n * 200)))
        pipe.zadd(f"zset:{n}", {f"m{m}": m / 3 for m in range(n * 200 + 1)})
    pipe.xadd("stream", {"f": "v"})
    pipe.xgroup_create("stream", "group", "0")
    pipe.execute()


def contents(client, pattern=None):
    """By key: what it holds and when it expires; of the types that Quire has."""
    found = {}
    keys = list(client.scan_iter(match=pattern, count=5_000))
    for at in range(0, len(keys), 500):
        part = keys[at : at + 500]
        pipe = client.pipeline(transaction=False)
        for key in part:
            pipe.type(key)
        types = [kind.decode() for kind in pipe.execute()]
        part = [(key, kind) for key, kind in zip(part, types) if kind in ("string", "hash")]
        for key, kind in part:
            pipe.get(key) if kind == "string" else pipe.hgetall(key)
            pipe.execute_command("PEXPIRETIME", key)
        replies = pipe.execute()
        for (key, _), held, expires in zip(part, replies[::2], replies[1::2]):
            found[key] = (held, expires)
    return found


def assert_equal(one, other):
    """Says how many keys differ and shows the first of them: all of both would bury that."""
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    shown = [(key, str(one.get(key))[:200], str(other.get(key))[:200]) for key in keys[:3]]
    assert not keys, f"{len(keys)} of {len(one)} and {len(other)} keys differ: {shown}"


def assert_holds(client, wanted, within_s=10):
    """The connection may read a copy, which what others wrote reaches a little later."""

    def holds():
        assert_equal(wanted, contents(client))
        return True

    eventually(holds, within_s, "the copy that is read has all of it")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A redis-server with the keys, and the path of its snapshot."""
    directory = tmp_path_factory.mktemp("redis")
    with redis_server(directory) as client:
        fill(client)
        client.save()
        client.contents = contents(client)
        assert len(client.contents) == KEYS
        client.snapshot = directory / "dump.rdb"
        client.url = f"redis://127.0.0.1:{REDIS_PORT}"
        yield client


@pytest.fixture
def keyspace(shared, request):
    """A keyspace of this test alone; a client of it, and its name."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:64]
    number = shared.create(name, "ACK", "async", "PLACE", "us=2,eu=1", "SHARDS", 2)
    client = shared.redis("us-1", db=number, decode_responses=False, socket_timeout=60)
    eventually(lambda: client.set("probe", 1), 20, "the keyspace takes writes")
    client.delete("probe")
    client.name, client.number = name, number
    yield client
    shared.quire("keyspace", "drop", name, "--yes", within_s=20)


def run_import(cluster, source, keyspace, *options, node="us-1", succeeds=True):
    done = cluster.run(
        "import", "--from", source, "--keyspace", keyspace, "--json", *options, node=node, within_s=400
    )
    assert (done.returncode == 0) == succeeds, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)


def failovers(cluster):
    events = json.loads(cluster.quire("events", "--json"))["events"]
    return [event for event in events if event["kind"] in ("failover", "recovered", "resumed", "waiting")]


@contextlib.contextmanager
def writes_elsewhere(cluster):
    """Somebody writes to another keyspace all the while."""
    writer = Writer(cluster, 0, "us-2", "elsewhere", pause_s=0.005)
    writer.start()
    try:
        yield writer
    finally:
        writer.over.set()
        writer.join(20)
    assert writer.writes and all(write.said == "accepted" for write in writer.writes)


def check(report, **wanted):
    assert report["complete"] is True and report["error"] is None, report
    assert {name: report[name] for name in wanted} == wanted, report


@pytest.mark.parametrize("kind", ["live", "file"])
def test_import_is_exact(shared, source, keyspace, kind):
    before = failovers(shared)
    with writes_elsewhere(shared):
        report = run_import(shared, source.url if kind == "live" else source.snapshot, keyspace.name)
    check(report, imported=KEYS, existing=0, failed=0, skipped=OTHERS, expired=0)
    assert report["imported_by_type"] == {"hash": KEYS // 2 + 1, "string": KEYS // 2 - 1}
    assert_holds(keyspace, source.contents)
    assert failovers(shared) == before
    # The second time there is nothing to do, and what was changed meanwhile stays.
    keyspace.set("key:1", "changed")
    report = run_import(shared, source.url if kind == "live" else source.snapshot, keyspace.name)
    check(report, imported=0, existing=KEYS, failed=0)
    assert keyspace.get("key:1") == b"changed"
    # Unless that is asked for; and only what is asked for.
    report = run_import(
        shared, source.url if kind == "live" else source.snapshot, keyspace.name, "--replace",
        "--match", "key:1*"
    )
    chosen = [key for key in source.contents if key.startswith(b"key:1")]
    check(report, imported=len(chosen), existing=0, failed=0, skipped={})
    assert_holds(keyspace, source.contents)


def test_a_damaged_or_short_file_says_where_and_what_was_imported(shared, source, keyspace, tmp_path):
    whole = source.snapshot.read_bytes()
    short = tmp_path / "short.rdb"
    short.write_bytes(whole[: len(whole) // 2])
    report = run_import(shared, short, keyspace.name, succeeds=False)
    assert report["complete"] is False
    assert f"ends at byte {len(whole) // 2}" in report["error"], report["error"]
    assert 0 < report["imported"] < KEYS
    found = contents(keyspace)
    large = found.pop(b"large", None)
    # A hash that came in parts, and not to its end, shows that by its time.
    assert large is None or large[1] in (UNFINISHED_MS, YEAR_2100_MS)
    assert_equal({key: source.contents[key] for key in found}, found)

    bad = tmp_path / "bad.rdb"
    at = whole.index(b"text 1001")
    bad.write_bytes(whole[:at] + b"T" + whole[at + 1 :])
    report = run_import(shared, bad, keyspace.name, "--dry-run", succeeds=False)
    assert "checksum" in report["error"] and report["imported"] == KEYS, report

    # The whole file goes on where the short one ended.
    report = run_import(shared, source.snapshot, keyspace.name)
    check(report, failed=0)
    assert report["imported"] + report["existing"] == KEYS and report["imported"] > 0
    assert_holds(keyspace, source.contents)


def test_other_databases_and_what_has_expired(shared, keyspace, tmp_path):
    with redis_server(tmp_path / "redis", REDIS_PORT + 1, password="p@ss") as client:
        client.set("zero", 1)
        client.set("over", 1, px=400)
        with redis.Redis(port=REDIS_PORT + 1, password="p@ss", db=3) as third:
            third.set("three", 3)
        client.save()
        eventually(lambda: not client.exists("over"), 5, "a key expires")
        file = tmp_path / "redis" / "dump.rdb"
        url = f"redis://:p%40ss@127.0.0.1:{REDIS_PORT + 1}"
        report = run_import(shared, file, keyspace.name)
        check(report, imported=1, expired=1, skipped={"in database 3 (--db)": 1})
        check(run_import(shared, file, keyspace.name, "--db", 3), imported=1)
        # What was deleted just now is not taken to be there, whichever copy is asked.
        keyspace.flushdb()
        check(run_import(shared, f"{url}/3", keyspace.name, node="eu-1"), imported=1)
        check(run_import(shared, url, keyspace.name), imported=1)
        assert_holds(keyspace, {b"three": (b"3", -1), b"zero": (b"1", -1)})
        done = shared.run("import", "--from", f"redis://127.0.0.1:{REDIS_PORT + 1}", "--keyspace", keyspace.name)
        assert done.returncode == 1 and "NOAUTH" in done.stderr, done
        assert "p@ss" not in done.stderr + done.stdout


def test_a_server_that_knows_no_moments(shared, keyspace, tmp_path):
    """As before Redis 7: no PEXPIRETIME; and MEMORY is not allowed."""
    forbidden = ["--rename-command", "PEXPIRETIME", "", "--rename-command", "MEMORY", ""]
    with redis_server(tmp_path / "redis", REDIS_PORT + 1, *forbidden) as client:
        wanted = {}
        for n in range(500):
            wanted[b"k%d" % n] = YEAR_2100_MS + n if n % 2 else -1
            client.set(f"k{n}", "v", pxat=YEAR_2100_MS + n if n % 2 else None)
        check(run_import(shared, f"redis://127.0.0.1:{REDIS_PORT + 1}", keyspace.name), imported=500)
        eventually(lambda: keyspace.dbsize() == 500, 10, "all keys are there")
        for key, (held, at) in contents(keyspace).items():
            assert held == b"v"
            # To the millisecond, give or take the one that a transaction takes.
            assert abs(at - wanted[key]) <= (5 if at > 0 else 0), (key, at)


def test_interrupted_and_resumed(shared, source, keyspace):
    for how in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(
            [BINARY, "import", "--from", source.url, "--keyspace", keyspace.name, "--json",
             "--node", f"127.0.0.1:{shared.port('us-1')}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        there = keyspace.dbsize()
        eventually(lambda: keyspace.dbsize() > there + 1_000 or process.poll() is not None, 120, "it goes on",
                   every_s=0.01)
        process.send_signal(how)
        out, _ = process.communicate(timeout=60)
        if how == signal.SIGINT and process.returncode:
            report = json.loads(out)
            assert report["complete"] is False and "interrupted" in report["error"], report
    # One hash that an import has begun, and one that is somebody else's.
    keyspace.delete("large")
    keyspace.hset("large", mapping={"field:1": "old", "gone": "old"})
    keyspace.pexpireat("large", UNFINISHED_MS)
    keyspace.delete("key:2")
    keyspace.hset("key:2", "mine", 1)
    report = run_import(shared, source.url, keyspace.name)
    check(report, failed=0)
    assert report["imported"] + report["existing"] == KEYS, report
    assert_holds(keyspace, {**source.contents, b"key:2": ({b"mine": b"1"}, -1)})


def test_a_large_hash_that_is_written_meanwhile_is_whole_all_the_same(shared, source, keyspace, tmp_path):
    with redis_server(tmp_path / "redis", REDIS_PORT + 1) as client:
        fields = {f"field:{n}": "x" * 300 for n in range(LARGE_FIELDS)}
        client.hset("large", mapping=fields)
        over = threading.Event()

        def write():
            other = redis.Redis(port=REDIS_PORT + 1)
            n = 0
            # A change now and then: some readings of it are whole.
            while not over.wait(1.5):
                other.hset("large", "written", n)
                n += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            done = shared.run("import", "--from", f"redis://127.0.0.1:{REDIS_PORT + 1}", "--keyspace", keyspace.name,
                              "--json", within_s=300)
        finally:
            over.set()
            writer.join()
        report = json.loads(done.stdout)
        if report["imported"]:
            eventually(lambda: keyspace.ttl("large") == -1, 10, "all of it is there")
            held = keyspace.hgetall("large")
            held.pop(b"written", None)
            assert held == {f.encode(): v.encode() for f, v in fields.items()}
        else:
            # It was changed each time: that is said, and nothing of it is left.
            assert report["failed"] == 1 and done.returncode == 1, report
            eventually(lambda: not keyspace.exists("large"), 10, "it is gone")


def test_export_and_back(shared, source, keyspace, tmp_path):
    check(run_import(shared, source.snapshot, keyspace.name), imported=KEYS)
    file = tmp_path / "all.resp"
    # From a copy that may not have all of it yet.
    done = shared.run("export", "--keyspace", keyspace.name, "-o", file, "--json", node="eu-1", within_s=400)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stderr.splitlines()[-1])
    assert report["exported"] == KEYS and report["failed"] == 0 and report["complete"], report
    assert not (tmp_path / "all.resp.part").exists()
    with redis_server(tmp_path / "redis", REDIS_PORT + 1) as client:
        # What is there is overwritten; and it may be done twice.
        client.set("large", "no hash")
        client.hset("key:2", "other", 1)
        for _ in range(2):
            with open(file, "rb") as commands:
                done = subprocess.run(["redis-cli", "-p", str(REDIS_PORT + 1), "--pipe"], stdin=commands,
                                      capture_output=True, text=True)
            assert done.returncode == 0 and "errors: 0" in done.stdout, done
            assert_equal(source.contents, contents(client))
        client.flushall()
        export = f"{BINARY} export --keyspace {keyspace.name} --match 'key:1*' --node 127.0.0.1:{shared.port('us-1')}"
        pipe = f"{export} | redis-cli -p {REDIS_PORT + 1} --pipe"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", pipe], capture_output=True, text=True)
        assert done.returncode == 0, done
        chosen = {key: held for key, held in source.contents.items() if key.startswith(b"key:1")}
        assert_equal(chosen, contents(client))


def test_wrong_calls_are_refused_at_once(shared, keyspace, tmp_path):
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    for options, code, said in [
        (["--from", tmp_path / "nothing"], 1, "can't open"),
        (["--from", empty], 1, "no RDB file"),
        (["--from", "http://h"], 2, "http:// is not known"),
        (["--from", f"redis://127.0.0.1:{REDIS_PORT + 9}"], 1, "can't connect to redis://127.0.0.1"),
        (["--from", "redis://127.0.0.1/1", "--db", 2], 1, "different databases"),
        ([], 2, "--from"),
    ]:
        done = shared.run("import", "--keyspace", keyspace.name, *options, within_s=15)
        assert done.returncode == code and said in done.stderr, (options, done)
    done = shared.run("import", "--from", empty, "--keyspace", "no-such")
    assert done.returncode == 1 and "no-such" in done.stderr, done
    done = shared.run("export", "--keyspace", keyspace.name, "-o", tmp_path / "no" / "dir")
    assert done.returncode == 1 and "can't write" in done.stderr, done


def test_an_import_goes_on_over_a_failover(cluster, source):
    number = cluster.create("moved", "ACK", "semi-sync:1", "PLACE", "us=3", "FAILOVER", "safe", node="us-2")
    client = cluster.redis("us-2", db=number, decode_responses=False, socket_timeout=60)
    eventually(lambda: client.set("probe", 1), 20, "the keyspace takes writes")
    client.delete("probe")
    primary = cluster.shards("moved", node="us-2")[0]["primary"]
    if primary == "us-2":
        client = cluster.redis("us-3", db=number, decode_responses=False, socket_timeout=60)
    # The node that the import talks to is the one that is killed.
    process = subprocess.Popen(
        [BINARY, "import", "--from", source.url, "--keyspace", "moved", "--json", "--wait", "240",
         "--node", f"127.0.0.1:{cluster.port(primary)}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    eventually(lambda: client.dbsize() > 1_000, 120, "it goes on", every_s=0.01)
    cluster.kill(primary)
    out, said = process.communicate(timeout=540)
    assert process.returncode == 0, out + said
    report = json.loads(out)
    check(report, failed=0)
    assert report["reconnects"] >= 1, report
    # A node that stood still for long closes its connections.
    assert_holds(client, source.contents, within_s=60)
