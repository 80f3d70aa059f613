#!/usr/bin/env python3
"""One node against redis-server where a sync of the log takes a millisecond more, as on a cloud's
disk: SET from 50 and from 200 clients, and GET from 50 while 200 others write.

A preloaded function (slow_sync.c) makes every fsync and fdatasync of both wait. The two take turns
as in one_node.py, with the same client, keys and values.

    python3 docs/benchmarks/slow_sync.py [--rounds 5] [--sync-ms 1] [--quire target/release/quire]

Needs redis-server, redis-benchmark and a C compiler. Takes about half a minute a round.
"""

import argparse
import functools
import os
import pathlib
import subprocess
import tempfile
import time

import pair


def command(port, clients, test, requests):
    return ["redis-benchmark", "-p", str(port), "-c", str(clients), "-r", "1000000", "-d", "256",
            "-n", str(requests), "-t", test, "--csv"]


def rate(port, clients, test, requests):
    out = subprocess.run(command(port, clients, test, requests), check=True, capture_output=True,
                         text=True).stdout
    return {"rate": float(out.strip().splitlines()[-1].split(",")[1].strip('"'))}


def beside_writers(port, clients, test, requests):
    writers = subprocess.Popen(command(port, 200, "set", 100_000_000), stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        return rate(port, clients, test, requests)
    finally:
        writers.kill()
        writers.wait()


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--sync-ms", type=float, default=1)
    args.add_argument("--quire", default="target/release/quire")
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        shim = os.path.join(directory, "slow_sync.so")
        source = pathlib.Path(__file__).with_name("slow_sync.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
        env = {"LD_PRELOAD": shim, "SYNC_MS": str(args.sync_ms)}
        cells = {
            "SET, 50 clients": functools.partial(rate, clients=50, test="set", requests=100_000),
            "SET, 200 clients": functools.partial(rate, clients=200, test="set", requests=200_000),
            "GET, 50 clients, while 200 write": functools.partial(
                beside_writers, clients=50, test="get", requests=100_000),
        }
        with pair.servers(args.quire, env) as ports:
            found = pair.in_turn(cells, ports, args.rounds)
            print(pair.machine(), end="\n\n")
    pair.report_rates(found)


if __name__ == "__main__":
    main()
