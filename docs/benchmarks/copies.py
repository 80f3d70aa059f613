#!/usr/bin/env python3
"""How long a replica on an emptied disk takes to be filled by a copy.

Two copies under `async`, no delays on the links. Keys and values of `--megabytes` in all are
written, and again, so that the log (1 GiB) has lost its beginning and can't fill it; then, once
for each rate, the replica is killed, its data directory is emptied and it is started again. Timed
from its start until it is a member again and level with the primary; the rate is what the primary
is told to give at most.

    python3 docs/benchmarks/copies.py [--megabytes 1000] [--rates 67108864,1073741824]
"""

import argparse
import os
import pathlib
import shutil
import tempfile
import time

from resp import Client, ask, request, until
from rewind import Cluster

VALUE_BYTES = 1000
BATCH = 1000


def fill(port, keyspace, count):
    client, blob = Client(port, keyspace, timeout_s=60), os.urandom(1 << 20)
    for at in range(0, count, BATCH):
        keys = range(at, min(at + BATCH, count))
        wheres = [(key * 0x9E3779B1) & 0x7FFFF for key in keys]
        client.socket.sendall(b"".join(
            request("SET", f"key:{key:012}", blob[where:where + VALUE_BYTES])
            for key, where in zip(keys, wheres)))
        for _ in keys:
            client.reply()
    client.close()


def is_filled(cluster, primary, replica):
    """Whether both know the replica as a member that is level."""
    return all(cluster.level("copied", node) for node in (replica, primary))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--megabytes", type=int, default=1000)
    args.add_argument("--rates", default="67108864,1073741824", help="bytes a second")
    args.add_argument("--quire", default="target/release/quire")
    args.add_argument("--base-port", type=int, default=23001)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(args, pathlib.Path(directory))
        try:
            port = cluster.ports["us-1"]
            ask(port, "KEYSPACE", "CREATE", "copied", "ACK", "async", "PLACE", "us=2", timeout_s=20)
            assert until(lambda: cluster.level("copied", "us-1"), 20)
            roles = {r["role"]: r["node"] for r in cluster.replicas("copied", "us-1")}
            primary, replica = roles["primary"], roles["replica"]
            count = args.megabytes * 1_000_000 // (VALUE_BYTES + 16)
            for _ in range(2 + 1100 // args.megabytes):
                fill(cluster.ports[primary], "copied", count)
            assert until(lambda: cluster.level("copied", primary), 120)
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
            print("| at most, MiB/s | filled and level after, s | MB/s |")
            print("|---|---|---|")
            for rate in map(int, args.rates.split(",")):
                ask(cluster.ports[primary], "CONFIG", "SET", "copy-bytes-per-second", rate)
                cluster.kill(replica)
                shutil.rmtree(cluster.dir / replica / "data")
                began = time.monotonic()
                cluster.server(replica)
                assert until(lambda: is_filled(cluster, primary, replica), 600, 0.05)
                took = time.monotonic() - began
                print(f"| {rate / 2**20:,.0f} | {took:.1f} | {args.megabytes / took:.0f} |", flush=True)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
