#!/usr/bin/env python3
"""One node against redis-server, both with the log synced before every answer.

Measures the two in turn (A B B A …; pair.py) and prints, for each cell, the medians, and of the
rounds' ratios the median and the spread; and the latencies where the client is `quire bench`.
SET, HSET, INCR and GET are asked by `redis-benchmark`, the mixes by `quire bench` in a closed
loop: `mix` is its reference workload (one HSET of two or three fields to ten HGETALL), `ycsb-a`
and `ycsb-b` are YCSB's workloads A and B. 50 clients throughout, which share the machine.
`--beside PATH` measures against that build of Quire instead of redis-server: the old beside the new.

    python3 docs/benchmarks/one_node.py [--rounds 5] [--quire target/release/quire]
                                        [--only set,get,ycsb-b] [--seconds 5] [--requests-part 1]
                                        [--beside PATH]

Needs redis-server and redis-benchmark on the PATH. Takes about a minute and a half a round.
"""

import argparse
import functools
import json
import subprocess
import sys

import pair

CLIENTS = 50
# Test → pipelines. A client of YCSB has one request in flight.
REDIS_BENCHMARK = {test: (1, 16) for test in ("set", "hset", "incr", "get")}
QUIRE_BENCH = {"mix": (1, 16), "ycsb-a": (1,), "ycsb-b": (1,)}
TESTS = [*REDIS_BENCHMARK, *QUIRE_BENCH]
REQUESTS = {1: 60_000, 16: 300_000}
LATENCIES = {"p50": "p50_ms", "p99": "p99_ms", "p99.9": "p99_9_ms"}


def redis_benchmark(test: str, pipeline: int, part: float, port: int):
    out = subprocess.run(
        ["redis-benchmark", "-p", str(port), "-c", str(CLIENTS), "-r", "1000000", "-d", "256",
         "-n", str(int(REQUESTS[pipeline] * part)), "-P", str(pipeline), "-t", test, "--csv"],
        check=True, capture_output=True, text=True,
    ).stdout
    return {"rate": float(out.strip().splitlines()[-1].split(",")[1].strip('"'))}


def quire_bench(quire: str, test: str, pipeline: int, seconds: float, port: int):
    workload = "reference" if test == "mix" else test
    done = subprocess.run(
        [quire, "bench", "--workload", workload, "--rate", "0", "--clients", str(CLIENTS),
         "--pipeline", str(pipeline), "--duration", str(seconds), "--json",
         "--node", f"127.0.0.1:{port}"],
        capture_output=True, text=True,
    )
    if done.returncode:
        sys.exit(f"{test} failed on port {port}: {done.stdout}{done.stderr}")
    report = json.loads(done.stdout)
    if report["errors"]:
        print(f"{test} on port {port}: errors {report['errors']}", file=sys.stderr)
    figures = {"rate": report["rate_achieved"]}
    for row in report["total"]:
        for name, member in LATENCIES.items():
            figures[f"{row['operation']} {name}"] = row[member]
    return figures


def cells(args):
    """{cell: function from a port to figures}."""
    found = {}
    for test in args.only:
        for pipeline in (REDIS_BENCHMARK | QUIRE_BENCH)[test]:
            if test in REDIS_BENCHMARK:
                measure = functools.partial(redis_benchmark, test, pipeline, args.requests_part)
            else:
                measure = functools.partial(quire_bench, args.quire, test, pipeline, args.seconds)
            name = test.upper() if test in REDIS_BENCHMARK else test
            found[f"{name} P={pipeline}"] = measure
    return found


def tests(text: str):
    chosen = text.split(",")
    unknown = set(chosen) - set(TESTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown} not among {', '.join(TESTS)}")
    return chosen


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--quire", default="target/release/quire")
    args.add_argument("--only", type=tests, default=TESTS, help="tests, separated by commas")
    args.add_argument("--seconds", type=float, default=5, help="a cell of quire bench")
    args.add_argument("--requests-part", type=float, default=1,
                      help="of redis-benchmark's requests, for a trial")
    args.add_argument("--beside", help="another build of Quire, instead of redis-server")
    args = args.parse_args()
    other = "other" if args.beside else "redis"
    with pair.servers(args.quire, beside=args.beside) as ports:
        found = pair.in_turn(cells(args), ports, args.rounds)
        print(pair.machine(), end="\n\n")
    pair.report_rates(found, other)
    pair.report_latencies(found, other)


if __name__ == "__main__":
    main()
