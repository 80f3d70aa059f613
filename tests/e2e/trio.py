"""Three nodes of one region without the demo: every test has its own data directories, which may
lie on disks of their own."""

import json
import os
import pathlib
import subprocess

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cluster import BASE_PORT, BINARY, eventually

NODES = ["us-1", "us-2", "us-3"]


class Trio:
    def __init__(self, directory, limits=""):
        self.dir = pathlib.Path(directory)
        self.limits = limits
        self.processes = {}
        self.clients = []
        for node in NODES:
            self.data(node).mkdir(parents=True)
            (self.dir / node / "node.toml").write_text(self.config(node))

    def data(self, node):
        return self.dir / node / "data"

    def port(self, node):
        return BASE_PORT + NODES.index(node)

    def config(self, node):
        port = self.port(node)
        peers = "".join(
            f'[[cluster.peers]]\nid = "{peer}"\nregion = "us"\n'
            f'peer_addr = "127.0.0.1:{self.port(peer) + 20}"\n'
            for peer in NODES
        )
        voters = ", ".join(f'"{node}"' for node in NODES)
        return (
            f'id = "{node}"\nregion = "us"\nzone = "a"\n'
            f'client_addr = "127.0.0.1:{port}"\npeer_addr = "127.0.0.1:{port + 20}"\n'
            f'http_addr = "127.0.0.1:{port + 40}"\ndata_dir = "data"\n'
            f'[cluster]\nname = "trio"\ncontrol_voters = [{voters}]\n{peers}'
            f"[limits]\ncache_bytes = 67108864\n{self.limits}\n"
        )

    def server(self, node, **environment):
        with open(self.dir / node / "log", "ab") as log:
            self.processes[node] = subprocess.Popen(
                [BINARY, "server", "--config", self.dir / node / "node.toml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
            )

    def start(self):
        for node in NODES:
            self.server(node)
        eventually(lambda: self.redis("us-1").ping(), 30, "us-1 answers")
        return self

    def create(self, options):
        client = self.redis("us-1")
        eventually(
            lambda: client.execute_command("KEYSPACE", "CREATE", "main", *options.split()),
            60,
            "a keyspace is created",
        )

    def redis(self, node, **options):
        options.setdefault("decode_responses", True)
        options.setdefault("socket_timeout", 60)
        client = redis.Redis(
            port=self.port(node), protocol=2, retry=Retry(NoBackoff(), 0), **options
        )
        self.clients.append(client)
        return client

    def quire(self, *args, node="us-1"):
        return subprocess.run(
            [BINARY, *args, "--node", f"127.0.0.1:{self.port(node)}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout

    def primary(self, node):
        """Of the keyspace's shard, as `node` knows it."""
        facts = self.redis(node).execute_command("QUIRE", "STATUS")
        return json.loads(facts)["keyspaces"][0]["shards"][0]["primary"]

    def log(self, node):
        return (self.dir / node / "log").read_text(errors="replace")

    def stop(self):
        for client in self.clients:
            client.close()
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
