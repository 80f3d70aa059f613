"""Disks that are not what they were: directories put back from a copy, ends of logs that decayed,
and two processes that go by one node's id (docs/adr/0013-disks-and-boots)."""

import json
import os
import shutil
import signal
import struct
import subprocess
import time

import pytest

from cluster import BASE_PORT, BINARY, NODES, eventually

US = ["us-1", "us-2", "us-3"]
WRITES = 500
UP_MAX_S = 60

SEGMENT_HEADER = 4096
BATCH_HEADER = 64


def primary_of(cluster, keyspace, node):
    return cluster.shards(keyspace, node)[0]["primary"]


def data(cluster, node):
    return cluster.dir / node / "data"


def events(cluster, node):
    """What the cluster wrote down, as (kind, text)."""
    said = json.loads(cluster.quire("events", "--json", node=node))
    return [(event["kind"], event["text"]) for event in said["events"]]


def start_all(cluster):
    for node in NODES:
        cluster.server(node)


def write(cluster, node, keyspace, keys):
    client = cluster.redis(node, db=keyspace)
    for key in keys:
        assert client.set(key, key)


def holds(cluster, keyspace, name, keys):
    """Every node answers every key, and all copies are equal."""

    def check():
        for node in US:
            client = cluster.redis(node, db=keyspace)
            try:
                missing = [key for key in keys if client.get(key) != key]
            finally:
                client.close()
                cluster.clients.remove(client)
            assert not missing, f"{len(missing)} are missing at {node}: {missing[:3]}"
        for replica in cluster.shards(name, "us-2")[0]["replicas"]:
            assert replica["caught_up"] and replica["role"] in ("primary", "replica"), replica
        code, report = cluster.verify(name, "us-2")
        assert code == 0 and report["equal"] is True, report
        return True

    eventually(check, UP_MAX_S, f"all of {name} is there", every_s=0.5)


def put_back(cluster, node, copy):
    shutil.rmtree(data(cluster, node))
    shutil.copytree(copy, data(cluster, node))


def last_batch(cluster, node):
    """The file with the last batch of a dead node's log, where it begins, and its length."""
    log = max((data(cluster, node) / "log").glob("*.log"))
    with open(log, "rb") as file:
        at, last = SEGMENT_HEADER, None
        while True:
            file.seek(at)
            head = file.read(BATCH_HEADER)
            if head[:4] != b"QBAT":
                return log, *last
            length = BATCH_HEADER + struct.unpack("<I", head[8:12])[0]
            last = (at, length)
            at += length


def flip_in_last_batch(cluster, node):
    log, at, length = last_batch(cluster, node)
    with open(log, "r+b") as file:
        file.seek(at + length - 1)
        byte = file.read(1)[0]
        file.seek(at + length - 1)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("rule", ["sync", "quorum"])
@pytest.mark.parametrize("restarted", [True, False])
def test_a_directory_from_a_copy_loses_nothing(cluster, rule, restarted):
    keyspace = cluster.create("ledger", "ACK", rule, "PLACE", "us=3")
    node = primary_of(cluster, "ledger", "us-1")
    copy = cluster.dir / "copy"
    write(cluster, node, keyspace, ["first"])
    cluster.kill(node)
    shutil.copytree(data(cluster, node), copy)
    cluster.server(node)
    other = next(n for n in US if n != node)
    eventually(lambda: cluster.redis(node, db=keyspace).set("up", "1"), UP_MAX_S, "it is back")
    if not restarted:
        # A copy of what is being written, as a snapshot of the disk gives it.
        shutil.rmtree(copy)
        shutil.copytree(data(cluster, node), copy)
    writer = primary_of(cluster, "ledger", other)
    keys = [f"key:{n}" for n in range(WRITES)]
    write(cluster, writer, keyspace, keys)
    cluster.kill(*NODES)
    put_back(cluster, node, copy)
    start_all(cluster)
    holds(cluster, keyspace, "ledger", ["first", *keys])
    said = events(cluster, other)
    if restarted:
        stale = [text for kind, text in said if kind == "set-aside"]
        assert stale and f"the disk of {node} is stale" in stale[0], said
        aside = list(data(cluster, node).glob("set-aside-*"))
        assert len(aside) == 1 and (aside[0] / "log").is_dir(), aside
    write(cluster, other, keyspace, ["later"])
    holds(cluster, keyspace, "ledger", ["later"])


@pytest.mark.parametrize("rule", ["sync", "quorum"])
def test_the_last_batch_of_a_primary_decays_before_a_cold_start(cluster, rule):
    keyspace = cluster.create("ledger", "ACK", rule, "PLACE", "us=3")
    node = primary_of(cluster, "ledger", "us-1")
    keys = [f"key:{n}" for n in range(20)]
    write(cluster, node, keyspace, keys)
    cluster.kill(*NODES)
    flip_in_last_batch(cluster, node)
    start_all(cluster)
    holds(cluster, keyspace, "ledger", keys)
    said = events(cluster, "us-2")
    assert any(kind == "cut" and node in text for kind, text in said), said
    assert any(kind in ("resumed", "failover") for kind, _ in said), said


def test_what_async_cuts_is_an_event(cluster):
    keyspace = cluster.create("loose", "PLACE", "us=3", "FAILOVER", "safe")
    node = primary_of(cluster, "loose", "us-1")
    write(cluster, node, keyspace, [f"key:{n}" for n in range(20)])
    cluster.caught_up("loose")
    cluster.kill(*NODES)
    flip_in_last_batch(cluster, node)
    start_all(cluster)
    eventually(lambda: cluster.redis("us-2", db=keyspace).set("more", "1"), UP_MAX_S, "it serves")

    def said():
        kinds = [kind for kind, text in events(cluster, "us-2") if node in text]
        assert "cut" in kinds, kinds
        return True

    eventually(said, UP_MAX_S, "the cut is written down")


def intruder_of(cluster, node):
    """Another process with the node's id, and a directory and ports of its own."""
    directory = cluster.dir / "intruder"
    directory.mkdir()
    text = (cluster.dir / node / "node.toml").read_text()
    own = BASE_PORT + NODES.index(node)
    for port in (own, own + 20, own + 40):
        text = text.replace(f'_addr = "127.0.0.1:{port}"', f'_addr = "127.0.0.1:{port + 60}"', 1)
    (directory / "node.toml").write_text(text)
    with open(directory / "log", "ab") as log:
        process = subprocess.Popen(
            [BINARY, "server", "--config", directory / "node.toml"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    cluster.by_hand.append(process)
    return process, directory / "log"


def test_a_second_process_with_one_id_stays_outside(cluster):
    keyspace = cluster.create("ledger", "ACK", "quorum", "PLACE", "us=3")
    write(cluster, "us-1", keyspace, ["first"])
    node = primary_of(cluster, "ledger", "us-1")
    before = [shard["epoch"] for shard in cluster.shards("ledger", "us-2")]
    process, log = intruder_of(cluster, node)
    client = cluster.redis(node, db=keyspace)
    for n in range(50):
        assert client.set(f"key:{n}", n)
        time.sleep(0.1)
    assert [shard["epoch"] for shard in cluster.shards("ledger", "us-2")] == before
    said = log.read_text(errors="replace")
    assert "stop one of the two" in said, said[-3000:]
    others = [cluster.dir / other / "log" for other in NODES if other != node]
    logs = [path.read_text(errors="replace") for path in others]
    assert any("stop one of the two" in text for text in logs)
    process.kill()
    process.wait()
    assert client.get("key:49") == "49"


def test_a_node_that_was_replaced_serves_nothing_and_comes_back(cluster):
    keyspace = cluster.create("ledger", "ACK", "quorum", "PLACE", "us=3")
    write(cluster, "us-1", keyspace, ["first"])
    node = primary_of(cluster, "ledger", "us-2")
    other = next(n for n in US if n != node)
    pid = cluster.pid(node)
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(
            lambda: primary_of(cluster, "ledger", other) != node, UP_MAX_S, "another takes over"
        )
        process, log = intruder_of(cluster, node)
        eventually(
            lambda: "link made" in log.read_text(errors="replace"), UP_MAX_S, "it gets in"
        )

        def registered():
            nodes = cluster.status(other)["nodes"]
            return next(n for n in nodes if n["id"] == node)["state"] == "up"

        eventually(registered, UP_MAX_S, "it is registered")
        write(cluster, other, keyspace, ["second"])
    finally:
        os.kill(pid, signal.SIGCONT)
    # The first has neither what was written since, nor the right to say anything of it.
    client = cluster.redis(node, db=keyspace, socket_timeout=5)
    until = time.monotonic() + 4
    while time.monotonic() < until:
        try:
            assert client.get("second") == "second", "an old value was served"
        except Exception as error:  # refused, closed or timed out: all of these are right
            if isinstance(error, AssertionError):
                raise
        time.sleep(0.1)
    own = (cluster.dir / node / "log").read_text(errors="replace")
    assert "this node's id" in own or "registered as this node" in own, own[-3000:]
    process.kill()
    process.wait()

    def back():
        mine = cluster.redis(node, db=keyspace)
        try:
            assert mine.get("second") == "second"
        finally:
            mine.close()
            cluster.clients.remove(mine)
        return True

    eventually(back, UP_MAX_S, "the first is back")
    holds(cluster, keyspace, "ledger", ["first", "second"])
