"""One Redis primary, two replicas, three Sentinels, for failover.py."""

import asyncio
import pathlib
import subprocess
import time

from load import missing
from resp import Refused, ask, request, until

PORTS = range(24001, 24004)
SENTINELS = range(24011, 24014)
FAILOVER_TIMEOUT_MS = 5000
# A Sentinel begins no second failover of a primary within twice the timeout.
BETWEEN_S = 2 * FAILOVER_TIMEOUT_MS / 1000 + 1

SENTINEL = """port {port}
dir {dir}
sentinel monitor m 127.0.0.1 {primary} 2
sentinel down-after-milliseconds m 1000
sentinel failover-timeout m {timeout}
sentinel parallel-syncs m 2
"""


class Redis:
    clients = 6
    keeps = False
    blocks = False
    saved = None  # It keeps no account of what it lost.

    def __init__(self, args, directory: pathlib.Path):
        self.name = f"Redis and Sentinel, appendfsync {args.fsync}"
        self.fsync, self.dir = args.fsync, directory
        self.processes = {}
        self.killed = 0.0
        self.masters = []

    def start(self):
        for port in PORTS:
            self.server(port, *([] if port == PORTS[0] else ["--replicaof", f"127.0.0.1 {PORTS[0]}"]))
        assert until(self.replicas_level, 60), "the replicas don't follow"
        for port in SENTINELS:
            directory = self.dir / str(port)
            directory.mkdir(parents=True)
            config = directory / "sentinel.conf"
            config.write_text(SENTINEL.format(port=port, dir=directory, primary=PORTS[0],
                                              timeout=FAILOVER_TIMEOUT_MS))
            self.run(port, "redis-sentinel", str(config))
        assert until(self.level, 60), "the Sentinels don't know one another and the replicas"

    def server(self, port, *options):
        (self.dir / str(port)).mkdir(parents=True, exist_ok=True)
        self.run(port, "redis-server", "--port", str(port), "--dir", str(self.dir / str(port)),
                 "--appendonly", "yes", "--appendfsync", self.fsync, "--save", "",
                 "--repl-diskless-sync-delay", "0", "--repl-backlog-size", "64mb", *options)

    def run(self, port, *command):
        self.processes[port] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
            stdout=open(self.dir / f"{port}.log", "ab"))

    def stop(self):
        # A Redis that writes its first append-only file refuses SIGTERM.
        for process in self.processes.values():
            process.kill()
            process.wait()

    # ---- what failover.py asks for -------------------------------------------------------

    async def find(self, client, attempt):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", SENTINELS[(client + attempt) % len(SENTINELS)])
        try:
            writer.write(request("SENTINEL", "get-master-addr-by-name", "m"))
            async with asyncio.timeout(1):
                lines = [await reader.readline() for _ in range(5)]
        finally:
            writer.close()
        if not lines[4].strip().isdigit():
            raise ConnectionError("a Sentinel does not know the primary")
        return int(lines[4]), []

    def primary(self):
        return int(ask(SENTINELS[0], "SENTINEL", "get-master-addr-by-name", "m")[1])

    def kill_primary(self):
        victim = self.primary()
        self.killed = time.monotonic()
        self.processes[victim].kill()
        self.processes[victim].wait()
        return victim

    def restart(self, victim):
        self.server(victim)

    def replicas_level(self):
        """All that run have the same offset in the same history, two of them as replicas."""
        try:
            seen = [dict(line.split(":", 1) for line in ask(port, "INFO", "replication").split("\r\n")
                         if ":" in line) for port in PORTS]
        except (OSError, Refused):
            return False
        self.masters = [port for port, i in zip(PORTS, seen) if i["role"] == "master"]
        return (sorted(i["role"] for i in seen) == ["master", "slave", "slave"]
                and all(i.get("master_link_status", "up") == "up" for i in seen)
                and len({(i["master_replid"], i["master_repl_offset"]) for i in seen}) == 1)

    def level(self):
        """… and every Sentinel knows both replicas and the other Sentinels, and may begin again."""
        if time.monotonic() < self.killed + BETWEEN_S or not self.replicas_level():
            return False
        for port in SENTINELS:
            try:
                words = ask(port, "SENTINEL", "master", "m")
            except (OSError, Refused):
                return False
            facts = dict(zip(words[::2], words[1::2]))
            known = facts["flags"], facts["port"], facts["num-slaves"], facts["num-other-sentinels"]
            if known != ("master", str(self.masters[0]), "2", "2"):
                return False
        return True

    def missing(self, prefix, numbers):
        return missing(self.primary(), None, prefix, numbers)

    def parts(self):
        return {}
