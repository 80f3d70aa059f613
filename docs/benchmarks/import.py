#!/usr/bin/env python3
"""A redis-server's keys into a cluster of three nodes, by `quire import`: from the running server
and from its RDB file, each into a keyspace of its own, while somebody writes to a third.

A third of the keys are strings of up to 300 bytes, a third small hashes, a third strings that
expire in 2100; one key in a thousand is a hash of 300 fields, and there is one of `--large`
fields. Afterwards every key is compared: what it holds, and PEXPIRETIME.

Prints, of each import: seconds, keys a second, the importer's peak memory, how long the writes
elsewhere waited, whether all is equal, and which failovers there were. Ends with 1 if anything
is not equal or there was one.

    python3 docs/benchmarks/import.py [--keys 1000000] [--quire target/release/quire]

Needs redis-server, redis-cli, and about 2 kB of disk and memory a key.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import pair
from resp import Client, request

YEAR_2100_MS = 4_102_444_800_000
BATCH = 1_000


def commands(keys, large):
    for n in range(keys - 1):
        if n % 1_000 == 0:
            yield request("HSET", f"key:{n}", *[w for f in range(300) for w in (f"field:{f}", f"{n * f}")])
        elif n % 3 == 0:
            yield request("SET", f"key:{n}", f"value {n} " * (n % 30))
        elif n % 3 == 1:
            yield request("HSET", f"key:{n}", *[w for f in range(n % 9 + 1) for w in (f"field:{f}", f"{n}:{f}")])
        else:
            yield request("SET", f"key:{n}", n * 7919, "PXAT", YEAR_2100_MS + n)
    for at in range(0, large, BATCH):
        fields = range(at, min(at + BATCH, large))
        yield request("HSET", "large", *[w for f in fields for w in (f"field:{f}", "x" * 100)])


def fill(port, keys, large):
    cli = subprocess.Popen(["redis-cli", "-p", str(port), "--pipe"], stdin=subprocess.PIPE,
                           stdout=subprocess.DEVNULL)
    for command in commands(keys, large):
        cli.stdin.write(command)
    cli.stdin.close()
    if cli.wait():
        sys.exit("redis-server could not be filled")


def held(client, names):
    """What each key holds and when it expires; large hashes are asked for in parts."""
    client.socket.sendall(b"".join(request("TYPE", n) + request("PEXPIRETIME", n) for n in names))
    facts = [(client.reply(), client.reply()) for _ in names]
    small = [(n, kind) for n, (kind, _) in zip(names, facts) if n != "large"]
    client.socket.sendall(b"".join(request("GET" if kind == "string" else "HGETALL", n) for n, kind in small))
    values = {}
    for name, kind in small:
        reply = client.reply()
        values[name] = reply if kind == "string" else tuple(sorted(zip(reply[::2], reply[1::2])))
    if "large" in names:
        fields, cursor = {}, "0"
        while True:
            cursor, flat = client.call("HSCAN", "large", cursor, "COUNT", 10_000)
            fields.update(zip(flat[::2], flat[1::2]))
            if cursor == "0":
                break
        values["large"] = tuple(sorted(fields.items()))
    return {name: (kind, values[name], expires) for name, (kind, expires) in zip(names, facts)}


def unequal(redis_port, quire_port, keyspace, keys):
    """How many keys differ, and the first of them."""
    one, other = Client(redis_port, timeout_s=60), Client(quire_port, keyspace, timeout_s=60)
    count, first = 0, None
    names = [f"key:{n}" for n in range(keys - 1)] + ["large"]
    for at in range(0, len(names), BATCH):
        part = names[at : at + BATCH]
        ours, theirs = held(other, part), held(one, part)
        for name in part:
            if ours[name] != theirs[name]:
                count += 1
                first = first or (name, theirs[name], ours[name])
    if other.call("DBSIZE") != keys:
        count, first = count + 1, first or ("DBSIZE", keys, other.call("DBSIZE"))
    return count, first


class Writes(threading.Thread):
    """A write to keyspace 0 every 5 ms, and how long each waits."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.client, self.over, self.waits, self.errors = Client(port, timeout_s=30), threading.Event(), [], []

    def run(self):
        n = 0
        while not self.over.wait(0.005):
            began = time.monotonic()
            try:
                self.client.call("SET", f"elsewhere:{n % 1000}", n)
            except Exception as error:  # noqa: BLE001: all are counted
                self.errors.append(str(error))
            self.waits.append(time.monotonic() - began)
            n += 1

    def stop(self):
        self.over.set()
        self.join(60)
        return sorted(self.waits)


def failovers(quire, port):
    events = subprocess.run([quire, "events", "--json", "--node", f"127.0.0.1:{port}"],
                            capture_output=True, check=True, text=True).stdout
    wanted = ("failover", "recovered", "resumed", "waiting", "disk-stalled")
    return [event["text"] for event in json.loads(events)["events"] if event["kind"] in wanted]


def bring(quire, source, port, keyspace):
    """Seconds, the report, and the importer's peak memory in MB."""
    began = time.monotonic()
    process = subprocess.Popen(
        [quire, "import", "--from", str(source), "--keyspace", keyspace, "--json", "--node", f"127.0.0.1:{port}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - began
    if process.returncode:
        sys.exit(f"the import ended with {process.returncode}: {out}")
    return took, json.loads(out), usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=100_000, help="fields of the largest hash")
    parser.add_argument("--quire", default="target/release/quire")
    args = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="quire-import-") as directory:
        redis_port, port = pair.free_port(), pair.free_port()
        redis = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(redis_port), "--save", "", "--dir", directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        demo = subprocess.Popen(
            [args.quire, "demo", "--dir", f"{directory}/quire", "--nodes", "us=3", "--wan", "none", "--base-port",
             str(port), "--no-workload"], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            pair.wait_for(redis_port)
            if not any(line.strip() == "ready" for line in demo.stdout):
                sys.exit("the demo ended before it was ready")
            fill(redis_port, args.keys, args.large)
            Client(redis_port, timeout_s=600).call("SAVE")
            file = pathlib.Path(directory, "dump.rdb")
            print(f"{args.keys:,} keys, an RDB file of {file.stat().st_size / 1e6:.0f} MB; {pair.machine()}\n")
            print("| from | s | keys/s | peak MB | writes elsewhere: p50 ms | p99 | max | refused | retries | unequal | failovers |")
            print("|---|---|---|---|---|---|---|---|---|---|---|")
            for name, source in (("file", file), ("server", f"redis://127.0.0.1:{redis_port}")):
                Client(port, timeout_s=30).call("KEYSPACE", "CREATE", name, "PLACE", "us=3")
                before = failovers(args.quire, port)
                writes = Writes(port)
                writes.start()
                took, report, peak_mb = bring(args.quire, source, port, name)
                waits = writes.stop()
                since = [text for text in failovers(args.quire, port) if text not in before]
                count, first = unequal(redis_port, port, name, args.keys)
                ms = [1_000 * waits[min(int(len(waits) * part), len(waits) - 1)] for part in (0.5, 0.99, 1)]
                print(f"| {name} | {took:.1f} | {args.keys / took:,.0f} | {peak_mb:.0f} | {ms[0]:.1f} | {ms[1]:.1f} | "
                      f"{ms[2]:.0f} | {len(writes.errors)} | {report['retries']} | {count} | {len(since)} |", flush=True)
                if count or since or writes.errors or report["imported"] != args.keys:
                    failed = True
                    print(first, since, writes.errors[:3], report, file=sys.stderr)
        finally:
            pair.stop(demo)
            pair.stop(redis)
    sys.exit(failed)


if __name__ == "__main__":
    main()
