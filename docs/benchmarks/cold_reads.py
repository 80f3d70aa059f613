#!/usr/bin/env python3
"""Random reads of keys that are in no memory, and what another client notices of them.

Loads `--keys` keys of `--bytes` random bytes into one node, starts it again with small caches, and
has redis-benchmark read random ones with 50 clients for about `--seconds`, while the system is
told over and over to forget the node's files, as if they were far larger than memory. Meanwhile
another connection reads one key that is always cached, 200 times a second by schedule. Prints how
many cold reads were answered a second, and the latency of both.

    python3 docs/benchmarks/cold_reads.py [--quire target/release/quire]
"""

import argparse
import contextlib
import csv
import io
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import pair
from resp import Client, request

FORGET_EVERY_S = 0.05
HOT_EVERY_S = 0.005
LIMITS = {"cache_bytes": 32 << 20, "block_cache_bytes": 64 << 20}


def name(key):
    return b"key:%012d" % key


def load(port, keys, size):
    client = Client(port)
    for at in range(0, keys, 500):
        some = range(at, min(at + 500, keys))
        client.socket.sendall(b"".join(request("SET", name(k), os.urandom(size)) for k in some))
        for _ in some:
            client.reply()


def set_limits(directory):
    file = directory / "us-1" / "node.toml"
    text = re.sub(r"\n\[limits\]\n[^\[]*", "\n", file.read_text())
    limits = "".join(f"{name} = {value}\n" for name, value in LIMITS.items())
    file.write_text(f"{text}\n[limits]\n{limits}")


def forget(directory, over):
    """Has the system drop what it holds of the node's files."""
    while not over.wait(FORGET_EVERY_S):
        for file in (directory / "us-1").rglob("tables/*"):
            with contextlib.suppress(OSError):
                fd = os.open(file, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def read_hot(port, over, waits):
    client, due = Client(port), time.monotonic()
    while not over.is_set():
        due += HOT_EVERY_S
        time.sleep(max(0, due - time.monotonic()))
        client.call("GET", "hot")
        waits.append((time.monotonic() - due) * 1000)


def measure(port, keys, pipeline, seconds):
    """(reads a second, csv row of redis-benchmark) and the waits of the hot reader."""
    def run(count):
        printed = subprocess.run(
            ["redis-benchmark", "-p", str(port), "-c", "50", "-P", str(pipeline), "-r", str(keys),
             "-n", str(count), "--csv", "GET", "key:__rand_int__"],
            check=True, capture_output=True, text=True).stdout
        return list(csv.DictReader(io.StringIO(printed)))[0]
    began = time.monotonic()
    run(2000)  # how many make up the time
    rate = 2000 / (time.monotonic() - began)
    over, waits = threading.Event(), []
    hot = threading.Thread(target=read_hot, args=(port, over, waits))
    hot.start()
    row = run(max(2000, int(rate * seconds)))
    over.set()
    hot.join()
    return row, waits


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--keys", type=int, default=1_000_000)
    args.add_argument("--bytes", type=int, default=1000)
    args.add_argument("--seconds", type=float, default=10)
    args.add_argument("--quire", default="target/release/quire")
    args = args.parse_args()
    with tempfile.TemporaryDirectory(prefix="quire-cold-reads-") as directory:
        port = pair.free_port()
        with pair.one_node(args.quire, directory, port):
            load(port, args.keys, args.bytes)
            Client(port).call("SET", "hot", "x")
            time.sleep(10)  # compactions
        set_limits(pathlib.Path(directory))
        print(pair.machine(), end="\n\n")
        print("| in flight for each of 50 clients | cold reads a second | p50 ms | p99 ms "
              "| a cached key: p50 ms | p99 ms | longest ms |")
        print("|---|---|---|---|---|---|---|")
        with pair.one_node(args.quire, directory, port):
            over = threading.Event()
            dropping = threading.Thread(target=forget, args=(pathlib.Path(directory), over))
            dropping.start()
            try:
                for pipeline in 1, 16:
                    row, waits = measure(port, args.keys, pipeline, args.seconds)
                    parts = statistics.quantiles(waits, n=100)
                    print(f"| {pipeline} | {float(row['rps']):,.0f} | {row['p50_latency_ms']} "
                          f"| {row['p99_latency_ms']} | {parts[49]:.2f} | {parts[98]:.2f} "
                          f"| {max(waits):.1f} |", flush=True)
            finally:
                over.set()
                dropping.join()


if __name__ == "__main__":
    main()
