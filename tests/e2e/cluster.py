"""A whole cluster, as `quire demo` starts it, and the clients that talk to it.

The binary is taken from QUIRE_BIN, ports from QUIRE_BASE_PORT on. Nodes are started by the demo;
one that a test killed is started again by hand, as an operator would.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("QUIRE_BIN", ROOT / "target/release/quire")).resolve()
BASE_PORT = int(os.environ.get("QUIRE_BASE_PORT", "17001"))

NODES = ["us-1", "us-2", "us-3", "eu-1", "eu-2", "asia-1", "asia-2"]
EVERYWHERE = ("PLACE", "us=3,eu=2,asia=2")

READY_MAX_S = 45
STOP_MAX_S = 5


def eventually(check, within_s, what, every_s=0.05):
    """Calls `check` until it returns something true; an AssertionError counts as not yet."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            result = check()
            if result:
                return result
            why = repr(result)
        except (AssertionError, redis.RedisError) as error:
            why = f"{type(error).__name__}: {error}"
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s} s: {why}")
        time.sleep(every_s)


def are_free(*ports):
    """Whether a process could listen on all of these."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


class Cluster:
    """Seven nodes in three regions; `us-1` is the primary of keyspace 0, `profiles`."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.output = self.dir / "demo.output"
        self.demo = None
        self.by_hand = []
        self.clients = []

    # ---- processes ---------------------------------------------------------------------

    def start(self):
        self.dir.mkdir(parents=True, exist_ok=True)
        with open(self.output, "wb") as output:
            self.demo = subprocess.Popen(
                [BINARY, "demo", "--dir", self.dir, "--base-port", str(BASE_PORT), "--no-workload"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_MAX_S
        while "\nready\n" not in "\n" + self.said():
            ended = self.demo.poll()
            if ended is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"the demo did not become ready (exit {ended}):\n{self.said()}")
            time.sleep(0.05)
        return self

    def said(self):
        """What the demo has printed, errors included."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def stop(self):
        """Ends everything; the demo must do so by itself, in time, once asked."""
        for client in self.clients:
            client.close()
        self.clients.clear()
        for process in self.by_hand:
            process.kill()
            process.wait()
        self.by_hand.clear()
        demo, self.demo = self.demo, None
        if demo is None:
            return
        demo.terminate()
        asked = time.monotonic()
        try:
            demo.wait(STOP_MAX_S + 5)
        except subprocess.TimeoutExpired:
            demo.kill()
            demo.wait()
        took = time.monotonic() - asked
        left = [node for node in NODES if self.pid(node)]
        for node in left:
            self.kill(node)
        assert took < STOP_MAX_S + 0.5, f"the demo took {took:.1f} s to stop"
        assert not left, f"nodes outlived the demo: {left}"

    def pid(self, node):
        """The process that runs `node` now, or None."""
        config = str(self.dir / node / "node.toml").encode()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    words = pathlib.Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
                    state = pathlib.Path("/proc", entry, "stat").read_text().rsplit(")")[1].split()[0]
                except OSError:
                    continue
                if b"server" in words and config in words and state != "Z":
                    return int(entry)
        return None

    def kill(self, *nodes):
        """kill -9, all of them at once as far as that goes; returns when they are gone."""
        pids = {node: self.pid(node) for node in nodes}
        for pid in pids.values():
            if pid:
                os.kill(pid, signal.SIGKILL)
        for process in self.by_hand:
            if process.pid in pids.values():
                process.wait()
        eventually(lambda: not any(self.pid(n) for n in nodes), 5, f"{nodes} are gone")
        # A thread that waits for the disk keeps the sockets for a while.
        eventually(lambda: all(self.is_free(n) for n in nodes), 30, f"the ports of {nodes} are free")

    def is_free(self, node):
        """Whether another process could listen where `node` does: for clients and for peers."""
        return are_free(self.port(node), self.port(node) + 20)

    def server(self, node):
        """Starts a node by hand."""
        with open(self.dir / node / "log", "ab") as log:
            process = subprocess.Popen(
                [BINARY, "server", "--config", self.dir / node / "node.toml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.by_hand.append(process)
        return process

    # ---- clients -----------------------------------------------------------------------

    def port(self, node):
        return BASE_PORT + NODES.index(node)

    def redis(self, node, **options):
        """A client of redis-py that tries nothing twice."""
        options.setdefault("decode_responses", True)
        options.setdefault("protocol", 2)
        options.setdefault("socket_timeout", 20)
        options.setdefault("retry", Retry(NoBackoff(), 0))
        client = redis.Redis(host="127.0.0.1", port=self.port(node), **options)
        self.clients.append(client)
        return client

    def run(self, *args, node="us-1", within_s=15):
        """Runs a command of `quire` at `node`."""
        where = [] if args[0] == "bench" else ["--node", f"127.0.0.1:{self.port(node)}"]
        return subprocess.run(
            [BINARY, *map(str, args), *where],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
        )

    def quire(self, *args, **options):
        """Like `run`, and it must succeed; what it printed."""
        done = self.run(*args, **options)
        assert done.returncode == 0, f"quire {args}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def status(self, node="us-1"):
        return json.loads(self.quire("status", "--json", node=node, within_s=4))

    def shards(self, keyspace, node="us-1"):
        """The shards of a keyspace as `node` sees them."""
        for facts in self.status(node)["keyspaces"]:
            if facts["name"] == keyspace:
                return facts["shards"]
        raise AssertionError(f"{node} knows no keyspace {keyspace}")

    def create(self, name, *options, node="us-1"):
        """Creates a keyspace, and returns its number."""
        client = self.redis(node)
        assert client.execute_command("KEYSPACE", "CREATE", name, *options)
        facts = client.execute_command("KEYSPACE", "SHOW", name)
        facts = facts if isinstance(facts, dict) else dict(zip(facts[::2], facts[1::2]))
        return facts["id"]

    def caught_up(self, keyspace="profiles", within_s=20, nodes=None):
        """Waits until every replica holds what the primary holds: no writes meanwhile."""
        client = self.redis("us-1")

        def check():
            for shard in self.shards(keyspace):
                for replica in shard["replicas"]:
                    if nodes is None or replica["node"] in nodes:
                        assert replica["caught_up"], replica
            return self.equal(keyspace)

        try:
            eventually(check, within_s, f"replicas of {keyspace} catch up", every_s=0.3)
        finally:
            client.close()

    def verify(self, keyspace="profiles", node="us-1"):
        done = self.run("verify", "--keyspace", keyspace, "--json", node=node, within_s=60)
        report = json.loads(done.stdout) if done.stdout else {"equal": None, "error": done.stderr}
        return done.returncode, report

    def equal(self, keyspace="profiles"):
        code, report = self.verify(keyspace)
        assert (code == 0) == (report["equal"] is True), (code, report)
        assert code == 0, report
        return True
