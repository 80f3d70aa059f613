#!/usr/bin/env python3
"""How fast a node takes back the writes that a failover lost.

Two copies under `async`, no delays on the links. Each round: the link to the replica is cut, N
entries are written that only the primary has, it is killed, the replica takes over, and the old
primary is started again. Timed from its log lines and from outside:

    save   the tail is read from the log and written to a file
    fetch  the keys are fetched from the new primary and put in place
    level  from the start of the process until both copies are equal members

    python3 docs/benchmarks/rewind.py [--entries 100000] [--bytes 100] [--rounds 3]
"""

import argparse
import datetime
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from failover_quire import running
from resp import Client, Refused, ask, request, until

NODES = {"us-1": 0, "us-2": 1, "us-3": 2, "eu-1": 3, "eu-2": 4, "asia-1": 5, "asia-2": 6}
LINES = ["a tail was lost in a failover", "what was lost in a failover is saved",
         "the tail that was lost is taken back"]


class Cluster:
    def __init__(self, args, directory):
        self.args, self.dir, self.by_hand = args, directory, {}
        self.ports = {node: args.base_port + at for node, at in NODES.items()}
        self.demo = subprocess.Popen(
            [args.quire, "demo", "--dir", directory, "--nodes", "us=3,eu=2,asia=2", "--wan", "none",
             "--base-port", str(args.base_port), "--no-workload"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert any(line.strip() == "ready" for line in self.demo.stdout), "the demo did not start"

    def stop(self):
        for process in [*self.by_hand.values(), self.demo]:
            process.terminate()
            process.wait()

    def status(self, node):
        return json.loads(ask(self.ports[node], "QUIRE", "STATUS", timeout_s=2))

    def replicas(self, keyspace, node):
        facts = next(k for k in self.status(node)["keyspaces"] if k["name"] == keyspace)
        return facts["shards"][0]["replicas"]

    def level(self, keyspace, node):
        try:
            seen = self.replicas(keyspace, node)
        except (OSError, Refused, StopIteration):
            return False  # It does not answer, or knows nothing of the keyspace yet.
        return (all(r["caught_up"] and r["role"] != "learner" for r in seen)
                and len({r["position"] for r in seen}) == 1)

    def kill(self, node):
        pid = next(n["pid"] for n in self.status(node)["nodes"] if n["id"] == node)
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: not running(pid), 5, 0.001)
        if node in self.by_hand:
            self.by_hand[node].wait()

    def server(self, node):
        log = open(self.dir / node / "log", "ab")
        self.by_hand[node] = subprocess.Popen(
            [self.args.quire, "server", "--config", self.dir / node / "node.toml"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def isolated(cluster, name):
    """A keyspace whose primary renews its lease without its replica, which is no voter of the
    control group: (name, both nodes)."""
    voters = cluster.status("us-1")["control"]["voters"]
    for attempt in range(6):
        keyspace = f"{name}-{attempt}"
        ask(cluster.ports["us-1"], "KEYSPACE", "CREATE", keyspace, "ACK", "async", "PLACE", "us=2",
            timeout_s=20)
        assert until(lambda: cluster.level(keyspace, "us-1"), 20)
        roles = {r["node"]: r["role"] for r in cluster.replicas(keyspace, "us-1")}
        primary = next(n for n, role in roles.items() if role == "primary")
        replica = next(n for n in roles if n != primary)
        if replica not in voters:
            ask(cluster.ports[primary], "QUIRE", "WAN", "CUT", primary, replica)
            return keyspace, primary, replica
    sys.exit("every replica is a voter")


def one_round(cluster, number, entries, size):
    keyspace, primary, replica = isolated(cluster, f"round{number}")
    client, value = Client(cluster.ports[primary], keyspace, timeout_s=30), "x" * size
    for at in range(0, entries, 1000):
        some = range(at, min(at + 1000, entries))
        client.socket.sendall(b"".join(request("SET", f"tail:{n}", value) for n in some))
        for _ in some:
            client.reply()
    client.close()
    cluster.kill(primary)
    ask(cluster.ports[replica], "QUIRE", "WAN", "HEAL", primary, replica)

    def takes_writes():
        try:
            return ask(cluster.ports[replica], "SET", "after", 1, keyspace=keyspace)
        except (OSError, Refused):
            return None

    assert until(takes_writes, 30), "the replica does not take over"
    log = cluster.dir / primary / "log"
    told = log.stat().st_size
    began = time.monotonic()
    cluster.server(primary)
    assert until(lambda: cluster.level(keyspace, replica), 300, 0.01), "it does not catch up"
    level = time.monotonic() - began
    lines = log.read_bytes()[told:].decode(errors="replace").splitlines()
    counts = dict(line.split(":", 1) for line in
                  ask(cluster.ports[primary], "INFO", "replication").split("\r\n") if ":" in line)
    if counts["rewinds"] != "1" or any("is filled" in line for line in lines):
        sys.exit(f"not taken back but copied: {counts}")
    lost, saved, back = (
        next(datetime.datetime.fromisoformat(line.split()[0].replace("Z", "+00:00"))
             for line in lines if what in line) for what in LINES)
    return {"save": (saved - lost).total_seconds(), "fetch": (back - saved).total_seconds(),
            "level": level, "entries": int(counts["rewound_entries"])}


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--entries", type=int, default=100_000)
    args.add_argument("--bytes", type=int, default=100)
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--quire", default="target/release/quire")
    args.add_argument("--base-port", type=int, default=23001)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(args, pathlib.Path(directory))
        try:
            rows = []
            for number in range(args.rounds):
                rows.append(one_round(cluster, number, args.entries, args.bytes))
                print(rows[-1], file=sys.stderr)
        finally:
            cluster.stop()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {args.entries} entries, each of a "
          f"key of its own, values of {args.bytes} bytes\n")
    print("| | s, round by round | median s | entries/s |")
    print("|---|---|---|---|")
    for part in ("save", "fetch", "save and fetch", "level"):
        times = [r["save"] + r["fetch"] if part == "save and fetch" else r[part] for r in rows]
        median = statistics.median(times)
        print(f"| {part} | {' '.join(f'{t:.2f}' for t in times)} | {median:.2f} | "
              f"{args.entries / median:,.0f} |")


if __name__ == "__main__":
    main()
