"""A Quire cluster and one keyspace of it, for failover.py."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

from load import missing
from resp import Refused, ask, until

KEYSPACE = "failover"


class Quire:
    def __init__(self, args, directory: pathlib.Path):
        self.name = f"Quire, {args.place} of {args.nodes}, {args.ack}, links {args.wan}"
        self.keeps = args.ack != "async"
        # Under this rule nothing is accepted before every member is back.
        self.blocks = args.ack == "sync"
        self.args, self.dir = args, directory
        self.ids = [f"{region}-{n + 1}" for region, count in
                    (part.split("=") for part in args.nodes.split(",")) for n in range(int(count))]
        self.ports = dict(zip(self.ids, range(args.base_port, args.base_port + len(self.ids))))
        self.clients = 2 * len(self.ids)
        self.by_hand = {}
        self.demo = None
        self.killed = 0.0

    def start(self):
        self.dir.mkdir(parents=True)
        self.demo = subprocess.Popen(
            [self.args.quire, "demo", "--dir", self.dir, "--nodes", self.args.nodes, "--wan",
             self.args.wan, "--base-port", str(self.args.base_port), "--no-workload"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert any(line.strip() == "ready" for line in self.demo.stdout), "the demo did not start"
        port = self.ports[self.ids[0]]
        ask(port, "KEYSPACE", "CREATE", KEYSPACE, "ACK", self.args.ack, "PLACE", self.args.place,
            timeout_s=20)
        assert until(self.level, 30), "the replicas don't follow"

    def stop(self):
        for process in [*self.by_hand.values(), self.demo]:
            if process:
                process.terminate()
                process.wait()

    # ---- what failover.py asks for -------------------------------------------------------

    async def find(self, client, attempt):
        return self.ports[self.ids[(client + attempt) % len(self.ids)]], [("SELECT", KEYSPACE)]

    def status(self):
        """As the first node that answers sees it."""
        for port in self.ports.values():
            try:
                return json.loads(ask(port, "QUIRE", "STATUS", timeout_s=2))
            except (OSError, Refused):
                continue
        raise ConnectionError("no node answers")

    def shard(self, status):
        return next(k for k in status["keyspaces"] if k["name"] == KEYSPACE)["shards"][0]

    def primary(self):
        return self.shard(self.status())["primary"]

    def kill_primary(self):
        """And the control leader, if that is wanted. Whom."""
        status = self.status()
        victims = {self.shard(status)["primary"]}
        if self.args.leader:
            victims.add(status["control"]["leader"])
        pids = [n["pid"] for n in status["nodes"] if n["id"] in victims]
        self.killed = time.time()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert until(lambda: not any(map(running, pids)), 5, 0.0005), f"{victims} don't die"
        return sorted(victims)

    def restart(self, victims):
        for victim in victims:
            if victim in self.by_hand:
                self.by_hand[victim].wait()
            with open(self.dir / victim / "log", "ab") as log:
                self.by_hand[victim] = subprocess.Popen(
                    [self.args.quire, "server", "--config", self.dir / victim / "node.toml"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def saved(self, prefix):
        """The numbers of writes that some node has saved as lost."""
        found = set()
        for file in self.dir.glob("*/**/rewound/*.jsonl"):
            for line in file.read_text().splitlines():
                change = json.loads(line)
                for effect in change["effects"] if "position" in change else []:
                    if effect["key"].startswith(f"{prefix}:"):
                        found.add(int(effect["key"].split(":")[1]))
        return found

    def level(self):
        """Every node sees all nodes up, and all replicas full members at one position."""
        for port in self.ports.values():
            try:
                status = json.loads(ask(port, "QUIRE", "STATUS", timeout_s=2))
            except (OSError, Refused):
                return False
            replicas = self.shard(status)["replicas"]
            if not (all(n["state"] == "up" for n in status["nodes"])
                    and all(r["caught_up"] and r["role"] != "learner" for r in replicas)
                    and len({r["position"] for r in replicas}) == 1):
                return False
        return True

    def missing(self, prefix, numbers):
        """Asked of the primary, which a node that was just cut off from it may not know yet."""
        for attempt in range(100):
            try:
                return missing(self.ports[self.primary()], KEYSPACE, prefix, numbers)
            except OSError:
                time.sleep(0.1)
        raise ConnectionError("the primary can't be reached")

    def parts(self):
        """After how many seconds which event was noted first, by the wall clock, if any are."""
        try:
            events = json.loads(ask(self.ports[self.primary()], "QUIRE", "EVENTS"))["events"]
        except (OSError, Refused):
            return {}
        since = [e for e in events if e["at_ms"] >= 1000 * self.killed]
        parts = {}
        for event in reversed(since):
            after = event["at_ms"] / 1000 - self.killed
            named = re.search(r"named (\d+) ms after the first doubt, of which sealing took (\d+)",
                              event["text"])
            if named:
                doubt = after - int(named[1]) / 1000
                parts["first doubt"] = doubt
                parts["enough sealed"] = doubt + int(named[2]) / 1000
                parts["lease over, planned"] = after
            else:
                parts[event["kind"]] = after
        return parts


def running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False
