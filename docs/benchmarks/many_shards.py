#!/usr/bin/env python3
"""What many shards cost that nobody uses, and what they cost when their primary is killed.

Three nodes (`quire demo`, no delays on the links), one keyspace `PLACE us=3` of each number of
shards, each in a cluster of its own. Prints

    created  from KEYSPACE CREATE until it is answered, and until every shard has taken a write
    idle     CPU of each node over `--seconds`, in per cent of a core (of /proc, most and least)
    memory   of each node, more than before the keyspace was created, and of that a shard's part
    status   `QUIRE STATUS` of the first node, median of five
    failover a node is killed with SIGKILL: until each of its shards takes a write again

    python3 docs/benchmarks/many_shards.py [--shards 1,100,1000] [--quire target/release/quire]
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

from resp import Client, Refused, ask, request, until

NODES = ["us-1", "us-2", "us-3"]
PATIENCE_S = 120


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines()
                if line.startswith("VmRSS")) / 1024


class Cluster:
    def __init__(self, args, directory):
        self.ports = {node: args.base_port + at for at, node in enumerate(NODES)}
        self.demo = subprocess.Popen(
            [args.quire, "demo", "--dir", directory, "--nodes", "us=3", "--wan", "none",
             "--base-port", str(args.base_port), "--no-workload"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert any(line.strip() == "ready" for line in self.demo.stdout), "the demo did not start"

    def stop(self):
        self.demo.terminate()
        self.demo.wait()

    def status(self, node="us-1"):
        return json.loads(ask(self.ports[node], "QUIRE", "STATUS", timeout_s=30))

    def pids(self):
        return {node["id"]: node["pid"] for node in self.status()["nodes"]}

    def shards(self, name, node="us-1"):
        keyspaces = self.status(node)["keyspaces"]
        return next((k["shards"] for k in keyspaces if k["name"] == name), [])


def slot(key):
    crc = 0
    for byte in key:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc & 0x3FFF


def a_key_each(shards):
    """A key of every shard: of 16,384 slots each has a range."""
    found = {}
    n = 0
    while len(found) < shards:
        key = b"key:%d" % n
        found.setdefault(slot(key) * shards >> 14, key)
        n += 1
    return list(found.values())


def write_all(port, name, keys):
    """Seconds until all have been written; those that are refused are written again."""
    began = time.monotonic()
    client = None
    while keys and time.monotonic() - began < PATIENCE_S:
        try:
            client = client or Client(port, name, timeout_s=30)
            client.socket.sendall(b"".join(request("SET", key, 1) for key in keys))
            refused = []
            for key in keys:
                try:
                    client.reply()
                except Refused:
                    refused.append(key)
            keys = refused
        except OSError:
            client = None
            time.sleep(0.05)
    return None if keys else time.monotonic() - began


def percent(values):
    return f"{min(values):.1f} to {max(values):.1f}"


def one(args, shards):
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(args, pathlib.Path(directory))
        try:
            pids = cluster.pids()
            time.sleep(2)
            empty = {node: memory_mb(pid) for node, pid in pids.items()}
            began = time.monotonic()
            answer = "OK"
            try:
                ask(cluster.ports["us-1"], "KEYSPACE", "CREATE", "many", "PLACE", "us=3", "SHARDS",
                    shards, timeout_s=60)
            except Refused as refused:
                answer = str(refused)
            answered = time.monotonic() - began
            keys = a_key_each(shards)
            writing = time.monotonic()
            write_all(cluster.ports["us-1"], "many", keys)
            created = answered + time.monotonic() - writing
            time.sleep(args.settle)
            before = {node: cpu_s(pid) for node, pid in pids.items()}
            time.sleep(args.seconds)
            idle = [(cpu_s(pid) - before[node]) / args.seconds * 100 for node, pid in pids.items()]
            memory = [memory_mb(pid) - empty[node] for node, pid in pids.items()]
            times = []
            for _ in range(5):
                asked = time.monotonic()
                cluster.status()
                times.append(time.monotonic() - asked)
            victim = "us-3"
            owned = sum(s["primary"] == victim for s in cluster.shards("many"))
            os.kill(pids[victim], signal.SIGKILL)
            killed = time.monotonic()
            named = until(lambda: all(s["primary"] != victim for s in cluster.shards("many")),
                          PATIENCE_S, 0.05)
            named = time.monotonic() - killed if named else None
            write_all(cluster.ports["us-1"], "many", keys)
            written = time.monotonic() - killed
            time.sleep(5)
            before = {node: cpu_s(pid) for node, pid in pids.items() if node != victim}
            time.sleep(args.seconds / 2)
            after = [(cpu_s(pids[node]) - before[node]) / args.seconds * 200 for node in before]
            return {
                "shards": shards,
                "answered s": f"{answered:.2f}{'' if answer == 'OK' or 'keyspace' in answer else ' ' + answer[:30]}",
                "written s": f"{created:.2f}",
                "idle %": percent(idle),
                "memory MB": f"{max(memory):.0f} ({max(memory) * 1024 / shards:.0f} KiB a shard)",
                "status ms": f"{statistics.median(times) * 1000:.0f}",
                "failover": f"{owned} shards: named {named and round(named, 2)} s, written {written:.2f} s",
                "idle with one down %": percent(after),
            }
        finally:
            cluster.stop()


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--shards", default="1,100,1000")
    args.add_argument("--seconds", type=float, default=20)
    args.add_argument("--settle", type=float, default=5)
    args.add_argument("--quire", default="target/release/quire")
    args.add_argument("--base-port", type=int, default=24101)
    args = args.parse_args()
    rows = [one(args, int(shards)) for shards in args.shards.split(",")]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
