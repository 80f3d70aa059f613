"""Clients that load faster than a node takes it: they are slowed, and nothing else happens."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading

import pytest
import redis

from trio import NODES, Trio


@pytest.fixture
def trio(tmp_path):
    # In memory where that can be had: whatever the machine's disk does is no matter here.
    memory = pathlib.Path("/dev/shm")
    base = pathlib.Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    trio = Trio(base / "t")
    try:
        trio.start()
        trio.create("ACK async PLACE us=3")
        yield trio
    finally:
        trio.stop()
        shutil.rmtree(base, ignore_errors=True)


def resp(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def pipe(trio, node, commands):
    """What redis-cli --pipe says: errors, replies, and its whole output."""
    done = subprocess.run(
        ["redis-cli", "-p", str(trio.port(node)), "--pipe"],
        input=b"".join(commands),
        capture_output=True,
        timeout=300,
    )
    text = (done.stdout + done.stderr).decode()
    found = re.search(r"errors: (\d+), replies: (\d+)", text)
    assert found, text[-2000:]
    return int(found[1]), int(found[2]), text


@pytest.mark.parametrize("node", ["primary", "replica"])
def test_large_values_by_a_pipe(trio, node):
    primary = trio.primary("us-1")
    node = primary if node == "primary" else next(n for n in NODES if n != primary)
    value = b"v" * 10_000
    errors, replies, text = pipe(trio, node, [resp("SET", f"k:{n}", value) for n in range(20_000)])
    assert (errors, replies) == (0, 20_000), text[-2000:]
    assert trio.redis(primary).dbsize() == 20_000


def test_many_pipes_of_large_values(trio):
    """More under way at once than the log's buffer holds."""
    port = str(trio.port(trio.primary("us-1")))
    done = subprocess.run(
        ["redis-benchmark", "-p", port, "-t", "set", "-d", "10000", "-P", "200", "-c", "50"]
        + ["-n", "40000", "-r", "1000", "-q"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and "SET:" in done.stdout, done.stdout[-500:] + done.stderr[-500:]
    assert "BUSY" not in done.stdout + done.stderr


def test_what_can_never_be_taken_says_so(trio):
    client = trio.redis(trio.primary("us-1"))
    with pytest.raises(redis.ResponseError, match="can be written: keep it in several"):
        client.setbit("k", 4294967295, 1)
    assert client.exists("k") == 0


def test_more_work_than_two_processors_do(trio):
    """Pipes of small commands while everything else competes for the processors: no lease ends
    for so long that another takes over, no write is refused, no connection is closed."""
    primary = trio.primary("us-1")
    hogs = [
        subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count() or 2)
    ]
    try:
        loads = [[resp("SET", f"{load}:{n}", "v" * 40) for n in range(60_000)] for load in range(3)]
        results = []
        threads = [
            threading.Thread(target=lambda c=commands: results.append(pipe(trio, primary, c)))
            for commands in loads
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert [(errors, replies) for errors, replies, _ in results] == [(0, 60_000)] * 3, results
    assert "failover" not in trio.quire("events")
    assert trio.primary("us-1") == primary
    for node in NODES:
        assert "connections are closed" not in trio.log(node)
