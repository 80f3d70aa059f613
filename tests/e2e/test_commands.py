"""Random commands, to redis-server and to one node: replies and contents are the same."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest
from cluster import BASE_PORT, BINARY, ROOT, eventually

REDIS_PORT = BASE_PORT + 90
NODE_PORT = BASE_PORT + 100
# How many, and of which seed: such that every known difference occurs.
COMMANDS = {"one shard": (800_000, 1), "four shards": (200_000, 11)}


def answers(port):
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(7) == b"+PONG\r\n"


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    at = tmp_path_factory.mktemp("commands")
    started = []

    def start(name, *args):
        with open(at / f"{name}.output", "wb") as output:
            started.append(subprocess.Popen(list(map(str, args)), cwd=at, stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=subprocess.STDOUT))

    def ready():
        try:
            return answers(REDIS_PORT) and "\nready\n" in (at / "quire.output").read_text(errors="replace")
        except OSError:
            return False

    try:
        start("redis", "redis-server", "--bind", "127.0.0.1", "--port", REDIS_PORT, "--save", "",
              "--enable-debug-command", "yes")
        start("quire", BINARY, "demo", "--dir", at / "demo", "--nodes", "us=1", "--wan", "none", "--no-workload",
              "--base-port", NODE_PORT)
        eventually(ready, 30, "redis-server and a node answer")
        yield
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            process.wait(10)


@pytest.mark.parametrize("keyspace", COMMANDS)
def test_replies_are_those_of_redis(servers, keyspace):
    (count, seed), shards = COMMANDS[keyspace], 4 if keyspace == "four shards" else 1
    made = [f"other-of-{shards}"] + ["many"] * (shards > 1)
    for name in made:
        with socket.create_connection(("127.0.0.1", NODE_PORT), timeout=20) as connection:
            connection.sendall(b"KEYSPACE CREATE %s SHARDS %d PLACE us=1\r\n" % (name.encode(), shards))
            assert connection.recv(100).startswith(b"+OK ")
    options = ["--other", made[0]] + ["--keyspace", "many"] * (shards > 1)
    program = pathlib.Path(ROOT, "tests/differential/differential.py")
    done = subprocess.run(
        [sys.executable, program, "--redis", str(REDIS_PORT), "--quire", str(NODE_PORT),
         "--commands", str(count), "--seed", str(seed), *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
