"""Tools that watch a Redis: what they read is there, and true."""

import os
import pty
import re
import select
import subprocess
import time

import pytest
import redis

from cluster import EVERYWHERE, eventually

# What redis_exporter reads of INFO ALL, and RedisInsight of it, as far as it means something here,
# by section. Each is a number but for those in WORDS.
FIELDS = {
    "Server": "redis_version redis_mode os tcp_port run_id process_id uptime_in_seconds",
    "Clients": """connected_clients blocked_clients maxclients tracking_clients cluster_connections
        client_recent_max_input_buffer client_recent_max_output_buffer""",
    "Memory": """used_memory used_memory_rss used_memory_peak total_system_memory maxmemory
        maxmemory_policy mem_clients_normal""",
    "Persistence": """loading async_loading rdb_changes_since_last_save rdb_bgsave_in_progress
        rdb_last_save_time rdb_last_bgsave_status aof_enabled aof_rewrite_in_progress
        aof_rewrite_scheduled aof_current_size aof_last_bgrewrite_status aof_last_write_status""",
    "Stats": """total_connections_received total_commands_processed instantaneous_ops_per_sec
        total_net_input_bytes total_net_output_bytes instantaneous_input_kbps
        instantaneous_output_kbps rejected_connections expired_keys evicted_keys evicted_clients
        keyspace_hits keyspace_misses pubsub_channels pubsub_patterns latest_fork_usec
        tracking_total_keys total_error_replies""",
    "Replication": "role connected_slaves master_repl_offset second_repl_offset master_replid",
    "CPU": "used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children",
    "Cluster": "cluster_enabled",
}
OF_REPLICAS = """master_host master_port master_link_status master_last_io_seconds_ago
    master_sync_in_progress slave_repl_offset slave_read_only"""
WORDS = {
    "redis_version": r"7\.\d+\.\d+", "redis_mode": "standalone", "os": "Linux .*", "run_id": "[0-9a-f]{40}",
    "maxmemory_policy": "noeviction", "rdb_last_bgsave_status": "ok", "aof_last_bgrewrite_status": "ok",
    "aof_last_write_status": "ok", "role": "master|slave", "master_replid": "[0-9a-f]{40}",
    "master_host": r"127\.0\.0\.1", "master_link_status": "up|down",
}
# What only grows, and by what: see `work`.
COUNTERS = """total_connections_received total_commands_processed total_net_input_bytes
    total_net_output_bytes expired_keys keyspace_hits keyspace_misses total_error_replies
    uptime_in_seconds used_cpu_user master_repl_offset""".split()


@pytest.fixture(scope="module")
def keyspaces(session_cluster):
    return {n: session_cluster.create(f"tools-{n}", *EVERYWHERE, "SHARDS", n) for n in (1, 4)}


def primary_of(cluster, keyspace):
    return cluster.shards(keyspace)[0]["primary"]


def sections(client, *which):
    """The lines of INFO, unparsed, by section."""
    text = client.execute_command("INFO", *which, NEVER_DECODE=True).decode()
    found, lines = {}, None
    for line in text.split("\r\n"):
        if line.startswith("# "):
            lines = found.setdefault(line[2:], {})
        elif line:
            name, value = line.split(":", 1)
            assert name not in lines, f"{name} is there twice"
            lines[name] = value
    return found


def number(text):
    assert re.fullmatch(r"-?\d+(\.\d+)?", text), text
    return float(text)


def check(found, names):
    for name in names.split():
        assert name in found, f"{name} is missing"
        if name in WORDS:
            assert re.fullmatch(WORDS[name], found[name]), (name, found[name])
        else:
            number(found[name])


def raw(cluster, node, db):
    client = cluster.redis(node, db=db)
    # redis-py makes a dictionary of INFO, in which what it does not understand is hidden.
    client.response_callbacks.pop("INFO", None)
    return client


def test_what_exporters_read_is_there_and_true(shared, keyspaces):
    primary = primary_of(shared, "tools-1")
    client = raw(shared, primary, keyspaces[1])
    client.flushdb()
    found = sections(client, "all")
    for section, names in FIELDS.items():
        check(found[section], names)
    replica = raw(shared, "asia-1", keyspaces[1])
    check(sections(replica, "all")["Replication"], f"role connected_slaves {OF_REPLICAS}")
    slaves = [value for name, value in found["Replication"].items() if re.fullmatch(r"slave\d+", name)]
    assert len(slaves) == int(found["Replication"]["connected_slaves"]) == 6
    for slave in slaves:
        pairs = dict(pair.split("=") for pair in slave.split(","))
        assert {"ip", "port", "state", "offset", "lag"} <= pairs.keys() and pairs["state"] == "online"
        number(pairs["offset"]), number(pairs["lag"])

    def counted():
        info = sections(client, "all")
        flat = {name: value for lines in info.values() for name, value in lines.items()}
        return {name: number(flat[name]) for name in COUNTERS}

    before = counted()
    client.set("a", "x" * 100_000)
    client.set("soon", 1, px=50)
    assert client.get("a") == "x" * 100_000 and client.get("none") is None
    with pytest.raises(redis.ResponseError):
        client.hget("a", "f")
    shared.redis(primary).ping()

    def moved():
        client.get("soon")
        after = counted()
        still = [name for name in COUNTERS if not after[name] > before[name]]
        assert not still, f"these did not move: {still}"
        for way in ("input", "output"):
            assert after[f"total_net_{way}_bytes"] - before[f"total_net_{way}_bytes"] >= 100_000, way
        return True

    eventually(moved, 20, "counters move")
    assert number(sections(client, "server")["Server"]["process_id"]) == shared.pid(primary)

    # By the second: what is shown follows what is done.
    def shown():
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(200):
                pipeline.get("a")
            pipeline.execute()
        stats = sections(client, "stats")["Stats"]
        return number(stats["instantaneous_output_kbps"]) > 1000 and number(stats["instantaneous_ops_per_sec"]) > 0

    eventually(shown, 20, "what goes out by the second")

    def listed():
        line = sections(client, "keyspace")["Keyspace"][f"db{keyspaces[1]}"]
        return re.fullmatch(r"keys=1,expires=0,avg_ttl=0", line)

    eventually(listed, 20, "keys of the keyspace")
    # What else an exporter asks, whatever it finds.
    settings = client.config_get("*")
    assert int(settings["maxclients"]) > 0 and settings["maxmemory"] == "0"
    assert client.slowlog_len() >= 0 and isinstance(client.execute_command("SLOWLOG", "GET", 1), list)
    assert isinstance(client.execute_command("LATENCY", "LATEST"), list)
    with pytest.raises(redis.ResponseError, match="This instance has cluster support disabled"):
        client.execute_command("CLUSTER", "INFO")


def counts(client):
    """Calls, and how many of them were rejected and failed, by command."""
    values = {}
    for name, value in sections(client, "commandstats").get("Commandstats", {}).items():
        pairs = [pair.split("=") for pair in value.split(",")]
        assert [name for name, _ in pairs] == ["calls", "usec", "usec_per_call", "rejected_calls", "failed_calls"], value
        calls, _, _, rejected, failed = (number(text) for _, text in pairs)
        values[name.removeprefix("cmdstat_")] = (calls, rejected, failed)
    return values


def test_commands_that_failed_are_counted_apart_from_those_that_were_rejected(shared, keyspaces):
    client = raw(shared, primary_of(shared, "tools-4"), keyspaces[4])
    client.set("text", "x"), client.set("{other}a", "x")
    client.config_resetstat()

    def fails(*args):
        with pytest.raises(redis.ResponseError):
            client.execute_command(*args)

    fails("HGET", "text", "f"), fails("HGET", "text"), client.hget("none", "f")
    fails("INCR", "text"), fails("NOSUCH"), fails("OBJECT", "NOSUCH", "x")
    # Of several shards: none was asked.
    keys = [f"k{n}" for n in range(20)]
    fails("MSETNX", *(word for key in keys for word in (key, 1)))
    with client.pipeline() as pipeline:
        pipeline.hget("text", "f").get("text")
        with pytest.raises(redis.ResponseError):
            pipeline.execute()
    found = counts(client)
    assert found["hget"] == (3, 1, 1) and found["incr"] == (1, 0, 1), found
    assert found["msetnx"] == (0, 1, 0) and found["exec"] == (1, 0, 1) and found["get"] == (1, 0, 0), found
    assert "object" not in found and "nosuch" not in found
    errors = {name: value for name, value in sections(client, "errorstats")["Errorstats"].items()}
    assert errors == {"errorstat_WRONGTYPE": "count=2", "errorstat_ERR": "count=4", "errorstat_CROSSSLOT": "count=1"}
    assert sections(client, "stats")["Stats"]["total_error_replies"] == "7"


def test_a_command_counts_and_is_shown_once_however_often_it_waits(shared):
    db = shared.create("tools-far", "PLACE", "us=3", "SHARDS", "4")
    client, monitor = raw(shared, "eu-1", db), shared.redis("eu-1").monitor()
    client.config_resetstat()
    with monitor, client.pipeline(transaction=False) as pipeline:
        for n in range(20):
            # Reads of several shards are away: the write must come after them.
            pipeline.get("a").get("b").get("c").get("d").set(f"k{n}", n)
        pipeline.echo("the end")
        assert len(pipeline.execute()) == 101
        shown = []
        for command in monitor.listen():
            shown.append(command["command"].split()[0])
            if "the end" in command["command"]:
                break
    assert (shown.count("SET"), shown.count("GET")) == (20, 80)
    found = counts(client)
    assert found["set"] == (20, 0, 0) and found["get"] == (80, 0, 0), found
    # And what the two connections said when they were made.
    assert 101 <= number(sections(client, "stats")["Stats"]["total_commands_processed"]) <= 115


def test_redis_cli_shows_statistics(shared, keyspaces):
    """As a person sees it: in a terminal, a line each interval."""
    client = shared.redis("us-1", db=keyspaces[1])
    client.flushdb()
    client.mset({f"k{n}": n for n in range(100)})
    # Counted in the copy here, which need not be the primary.
    keyspace = f"db{keyspaces[1]}"
    eventually(lambda: client.info("keyspace").get(keyspace, {}).get("keys") == 100, 10, "all are here")
    here, there = pty.openpty()
    process = subprocess.Popen(["redis-cli", "-p", str(shared.port("us-1")), "--stat", "-i", "0.5"],
                               stdin=there, stdout=there, stderr=there)
    os.close(there)
    seen, deadline, lines = b"", time.monotonic() + 60, []
    try:
        while len(lines) < 3:
            assert time.monotonic() < deadline, seen
            if select.select([here], [], [], 1)[0]:
                seen += os.read(here, 65_536)
            lines = [line for line in seen.decode().replace("\r", "").split("\n")[:-1] if line[:1].isdigit()]
            client.get("k1")
    finally:
        process.kill()
        process.wait()
        os.close(here)
    assert b"keys" in seen and b"requests" in seen and b"connections" in seen
    rows = []
    for line in lines[:3]:
        match = re.fullmatch(r"(\d+) +(\d+\.\d\d[KMG]) +(\d+) +(\d+) +(\d+) \(\+(\d+)\) +(\d+) *", line)
        assert match, line
        keys, memory, clients, blocked, requests, more, connections = match.groups()
        rows.append([int(n) for n in (keys, clients, blocked, requests, more, connections)])
    # It sums up the first twenty databases.
    keys = sum(facts["keys"] for db, facts in client.info("keyspace").items() if int(db[2:]) < 20)
    for (count, clients, _, requests, _, connections), before in zip(rows, [[0] * 6, *rows]):
        assert count == keys >= 100 and clients >= 2
        # Counted since the last CONFIG RESETSTAT: those that were open then are clients all the same.
        assert connections >= max(before[5], 1)
        assert requests > before[3]
    assert rows[2][4] == rows[2][3] - rows[1][3]
