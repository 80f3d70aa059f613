#!/usr/bin/env python3
"""Many new keys through the front door of one node, and how long any of the writes waits.

Writes `--keys` different keys of 16 bytes with values of `--bytes` random ones, each once, from
`--clients` connections in a closed loop with `--pipeline` requests in flight each, while
`--readers` others read random ones of those that are there, `--reads` a second in all, by
schedule. A request
waits from the moment it is handed to the socket (a read: since it was due) until its reply is
read. Prints the rate, and percentiles and the maximum of the waits, for every tenth of the load
and in all; then what the node holds: memory, bytes on disk, and bytes written to it for each byte
of keys and values.

    python3 docs/benchmarks/many_keys.py [--keys 20000000] [--quire target/release/quire]

Needs a disk with room for three times the keys and values (`TMPDIR` says where). Takes about five
minutes for 20 million keys, and a processor for the clients.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pair
from resp import Client

PARTS = 10


class Waits:
    """How often requests waited for how long, in steps of 10 µs."""

    def __init__(self):
        self.counts, self.total, self.worst = {}, 0, 0.0

    def add(self, wait_s, count):
        step = round(wait_s * 1e5)
        self.counts[step] = self.counts.get(step, 0) + count
        self.total += count
        self.worst = max(self.worst, wait_s)

    def merge(self, other):
        for step, count in other.counts.items():
            self.counts[step] = self.counts.get(step, 0) + count
        self.total += other.total
        self.worst = max(self.worst, other.worst)

    def ms(self, part):
        left = self.total * part
        for step in sorted(self.counts):
            left -= self.counts[step]
            if left <= 0:
                return step / 100
        return self.worst * 1000


def name(key):
    return b"k%015d" % key


def write(port, count, clients, pipeline, size, there, found):
    """Writes `count` keys; puts Waits of each part into `found`, and None at the end. `there`:
    how many keys from 0 on are there."""
    blob = os.urandom(1 << 20)
    selector = selectors.DefaultSelector()
    head = b"*3\r\n$3\r\nSET\r\n$16\r\n"
    middle = b"\r\n$%d\r\n" % size
    left = iter(range(0, count, pipeline))
    waits, part = Waits(), count / PARTS

    def send(connection):
        at = next(left, None)
        if at is None:
            selector.unregister(connection["socket"])
            return
        keys = range(at, min(at + pipeline, count))
        parts = []
        for key in keys:
            where = (key * 0x9E3779B1) & 0x7FFFF
            parts += (head, name(key), middle, blob[where:where + size], b"\r\n")
        # Whoever is behind all others is behind by less than what all have in flight.
        there.value = max(0, at - clients * pipeline * 4)
        connection["due"], connection["got"] = len(keys), b""
        connection["sent"] = time.monotonic()
        connection["socket"].sendall(b"".join(parts))

    for _ in range(clients):
        connection = {"socket": socket.create_connection(("127.0.0.1", port))}
        connection["socket"].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection["socket"], selectors.EVENT_READ, connection)
        send(connection)
    while selector.get_map():
        for key, _ in selector.select():
            connection = key.data
            connection["got"] += connection["socket"].recv(65536)
            replies = connection["got"].count(b"\n")
            if replies < connection["due"]:
                continue
            if connection["got"] != b"+OK\r\n" * connection["due"]:
                found.put(f"refused: {connection['got'][:200]!r}")
                return
            waits.add(time.monotonic() - connection["sent"], connection["due"])
            if waits.total >= part:
                found.put(waits)
                waits = Waits()
            send(connection)
    found.put(waits)
    found.put(None)


def read_one(port, rate, there, found):
    connection, waits, due, missing = Client(port), Waits(), time.monotonic(), 0
    while there.value >= 0:
        due += 1 / rate
        time.sleep(max(0, due - time.monotonic()))
        if there.value > 0:
            value = connection.call("GET", name(random.randrange(there.value)))
            missing += value is None
            waits.add(time.monotonic() - due, 1)
    found.append((waits, missing))


def read(port, rate, readers, there, found):
    """Reads keys that are there, by schedule, until `there` is negative."""
    each = []
    threads = [threading.Thread(target=read_one, args=(port, rate / readers, there, each))
               for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = Waits()
    for waits, _ in each:
        whole.merge(waits)
    # A reader that failed has found nothing.
    found.put((whole, sum(missing for _, missing in each), len(each) == readers))


def written_bytes(pid):
    with open(f"/proc/{pid}/io") as io:
        return int(dict(line.split(": ") for line in io.read().splitlines())["write_bytes"])


def memory_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        rows = dict(line.split(":", 1) for line in status.read().splitlines())
    return int(rows["VmRSS"].split()[0]) * 1024, int(rows["VmHWM"].split()[0]) * 1024


def server_pid(port):
    info = subprocess.run(["redis-cli", "-p", str(port), "INFO", "server"], check=True,
                          capture_output=True, text=True).stdout
    return int(next(row for row in info.splitlines() if row.startswith("process_id:"))[11:])


def disk_bytes(directory):
    total = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(root, name)).st_blocks * 512
    return total


def row(what, waits, seconds):
    print(f"| {what} | {waits.total:,} | {waits.total / seconds:,.0f} | "
          f"{waits.ms(.5):.2f} | {waits.ms(.99):.2f} | {waits.ms(.9999):.2f} | "
          f"{waits.worst * 1000:.1f} |", flush=True)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--keys", type=int, default=20_000_000)
    args.add_argument("--bytes", type=int, default=256)
    args.add_argument("--clients", type=int, default=16)
    args.add_argument("--pipeline", type=int, default=16)
    args.add_argument("--reads", type=int, default=1000, help="a second, meanwhile")
    args.add_argument("--readers", type=int, default=8)
    args.add_argument("--quire", default="target/release/quire")
    args = args.parse_args()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="quire-many-keys-"))
        port = pair.free_port()
        stack.enter_context(pair.one_node(args.quire, directory, port))
        pid = server_pid(port)
        before = written_bytes(pid)
        print(pair.machine(), end="\n\n")
        print("| requests | number | a second | p50 ms | p99 ms | p99.99 ms | longest ms |")
        print("|---|---|---|---|---|---|---|")
        found, there = multiprocessing.Queue(), multiprocessing.Value("q", 0)
        began = part_began = time.monotonic()
        writer = multiprocessing.Process(
            target=write, daemon=True,
            args=(port, args.keys, args.clients, args.pipeline, args.bytes, there, found))
        writer.start()
        reader_found = multiprocessing.Queue()
        reader = multiprocessing.Process(
            target=read, daemon=True, args=(port, args.reads, args.readers, there, reader_found))
        reader.start()
        whole, number = Waits(), 0
        while (waits := found.get()) is not None:
            if isinstance(waits, str):
                sys.exit(waits)
            if waits.total:
                number += 1
                now = time.monotonic()
                row(f"writes, part {number}", waits, now - part_began)
                part_began = now
                whole.merge(waits)
        row("writes, all", whole, time.monotonic() - began)
        there.value = -1
        reads, missing, all_read = reader_found.get()
        if not all_read:
            sys.exit("a reader failed")
        row("reads meanwhile", reads, time.monotonic() - began)
        if missing:
            sys.exit(f"{missing} keys that had been written were not there")
        size = args.keys * (args.bytes + 16)
        time.sleep(10)  # compactions
        resident, highest = memory_bytes(pid)
        print(f"\nmemory {resident / 2**20:,.0f} MiB, at most {highest / 2**20:,.0f}; on disk "
              f"{disk_bytes(directory) / size:.2f}, written "
              f"{(written_bytes(pid) - before) / size:.2f} for each byte of keys and values "
              f"({size / 1e9:.2f} GB)")


if __name__ == "__main__":
    main()
