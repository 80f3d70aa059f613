#!/usr/bin/env python3
"""One node against redis-server, both with the log synced before every answer.

Runs `redis-benchmark` against the two in turn (A B A B …), so that a machine whose speed
drifts is no advantage to either, and prints the median of each cell and the ratio.

    python3 docs/benchmarks/one_node.py [--rounds 5] [--quire target/release/quire]

Needs redis-server and redis-benchmark on the PATH. Takes about 20 s a round.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TESTS = ["set", "hset", "incr", "get"]
REQUESTS = {1: 60_000, 16: 300_000}


def free_port() -> int:
    # Peers listen 20 ports above, HTTP 40: stay clear of the ephemeral range's end.
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return min(s.getsockname()[1], 65_000)


def wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"nothing listens on port {port}")


def measure(port: int, test: str, pipeline: int) -> float:
    out = subprocess.run(
        ["redis-benchmark", "-p", str(port), "-c", "50", "-r", "1000000", "-d", "256",
         "-n", str(REQUESTS[pipeline]), "-P", str(pipeline), "-t", test, "--csv"],
        check=True, capture_output=True, text=True,
    ).stdout
    return float(out.strip().splitlines()[-1].split(",")[1].strip('"'))


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--quire", default="target/release/quire")
    args = args.parse_args()
    quire_port, redis_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as quire_dir, tempfile.TemporaryDirectory() as redis_dir:
        demo = subprocess.Popen(
            [args.quire, "demo", "--dir", quire_dir, "--nodes", "us=1", "--wan", "none",
             "--base-port", str(quire_port), "--no-workload"],
            stdout=subprocess.PIPE, text=True,
        )
        redis = subprocess.Popen(
            ["redis-server", "--port", str(redis_port), "--appendonly", "yes",
             "--appendfsync", "always", "--save", "", "--dir", redis_dir],
            stdout=subprocess.DEVNULL,
        )
        try:
            for line in demo.stdout:
                if line.strip() == "ready":
                    break
            wait_for(redis_port)
            figures = {(t, p): ([], []) for p in REQUESTS for t in TESTS}
            for number in range(args.rounds):
                for (test, pipeline), (ours, theirs) in figures.items():
                    ours.append(measure(quire_port, test, pipeline))
                    theirs.append(measure(redis_port, test, pipeline))
                print(f"round {number + 1} of {args.rounds} done", file=sys.stderr)
            report(figures)
        finally:
            for process in (demo, redis):
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=30)


def report(figures) -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| test | P | quire/s | redis/s | ratio | ratios, round by round |")
    print("|---|---|---|---|---|---|")
    product, cells = 1.0, 0
    for (test, pipeline), (ours, theirs) in figures.items():
        a, b = statistics.median(ours), statistics.median(theirs)
        ratios = [x / y for x, y in zip(ours, theirs)]
        product, cells = product * statistics.median(ratios), cells + 1
        each = " ".join(f"{r:.2f}" for r in ratios)
        print(f"| {test.upper()} | {pipeline} | {a:,.0f} | {b:,.0f} | "
              f"{statistics.median(ratios):.2f} | {each} |")
    print(f"\ngeometric mean of the ratios: {product ** (1 / cells):.2f}")


if __name__ == "__main__":
    main()
