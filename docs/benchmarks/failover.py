#!/usr/bin/env python3
"""How long a shard, or a Redis, takes no writes when its primary is killed, and what is lost.

Each try: writes by schedule (load.py) over all nodes; kill -9 of the primary; the time until a
write that was sent afterwards is accepted; what was accepted and is missing, read before and
after the old primary is back; then until all copies are level, and the next try. Quire (`quire
demo`) and Redis (one primary, two replicas, three Sentinels, down-after-milliseconds 1000) take
turns, so that a machine whose speed drifts is no advantage to either. Redis's clients ask a
Sentinel where to connect after every break; links are emulated for Quire alone.

With `--ack sync`, which accepts nothing while a member is away, the old primary is started again
as soon as another is named.

    python3 docs/benchmarks/failover.py [--tries 30] [--wan none|reference] [--ack semi-sync:1]
                                        [--fsync always|everysec] [--only quire|redis]
                                        [--leader] [--place us=3] [--nodes us=3,eu=2,asia=2]

With --leader Quire's control leader is killed at the same moment; that needs more nodes than three,
so that a majority of its voters is left.
Needs Python 3.11, redis-server and redis-sentinel. Takes about 30 s a try. Exits 1 if a rule that
promises to keep what is accepted did not, or a try brought no write within 30 s.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

from failover_quire import Quire
from failover_redis import Redis
from load import Load
from resp import until

WARM_S = 2
AFTER_S = 2
FIRST_WRITE_MAX_S = 30
LEVEL_MAX_S = 120


def one_try(system, number, rate):
    """A row of figures; None where something did not come in time."""
    load = Load(f"try{number}", rate, system.clients, system.find).start()
    try:
        time.sleep(WARM_S)
        killed = time.monotonic()
        victim = system.kill_primary()
        gone = time.monotonic()
        named = restarted = None
        if system.blocks:
            named = until(lambda: system.primary() not in victim, FIRST_WRITE_MAX_S, 0.01)
            named = named and time.monotonic() - killed
            system.restart(victim)
            restarted = time.monotonic() - killed
        first = until(lambda: load.first_after(gone), FIRST_WRITE_MAX_S, 0.01)
        time.sleep(AFTER_S)
    finally:
        never = load.stop()
    every = load.last_client_after(gone)
    accepted = [n for n, *_ in load.accepted]
    row = {
        "victim": victim,
        "first_s": first and first - killed,
        "every_s": every and every - killed,
        "named_s": named,
        "restarted_s": restarted,
        "accepted": len(accepted),
        "never": never,
        "errors": dict(load.errors),
    }
    row["parts"] = system.parts()
    row["primary"] = system.primary()
    missing = system.missing(load.prefix, accepted)
    back = time.monotonic()
    if not system.blocks:
        system.restart(victim)
    row["level_s"] = until(system.level, LEVEL_MAX_S) and time.monotonic() - back
    row["primary_later"] = system.primary()
    row["lost_before"] = len(missing)
    missing = system.missing(load.prefix, accepted)
    row["lost_after"] = len(missing)
    if missing:
        lost = set(missing)
        row["unsaved"] = len(lost - system.saved(load.prefix)) if system.saved else len(lost)
        times = [got - killed for n, _, _, got in load.accepted if n in lost]
        row["lost_accepted_s"] = min(times), max(times)
    return row


def spread(values):
    there = [v for v in values if v is not None]
    if not there:
        return "never"
    late = f", {len(values) - len(there)} never" if len(there) < len(values) else ""
    return f"{statistics.median(there):.2f} / {min(there):.2f} / {max(there):.2f}{late}"


def report(systems, rows):
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| | " + " | ".join(s.name for s in systems) + " |")
    print("|---|" + "---|" * len(systems))
    lines = [
        ("tries", lambda r: len(r)),
        ("first accepted write, s (median / min / max)", lambda r: spread([x["first_s"] for x in r])),
        ("every client served again, s", lambda r: spread([x["every_s"] for x in r])),
        ("old primary back and level, s", lambda r: spread([x["level_s"] for x in r])),
        ("writes accepted", lambda r: f"{sum(x['accepted'] for x in r):,}"),
        ("of them lost, before the old primary was back", lambda r: sum(x["lost_before"] for x in r)),
        ("of them lost, after", lambda r: sum(x["lost_after"] for x in r)),
        ("of those, in no file of what was lost", lambda r: sum(x.get("unsaved", 0) for x in r)),
        ("tries that lost any", lambda r: sum(x["lost_after"] > 0 for x in r)),
        ("writes never accepted", lambda r: sum(x["never"] for x in r)),
    ]
    for name, figure in lines:
        print(f"| {name} | " + " | ".join(str(figure(rows[s])) for s in systems) + " |")
    for system in systems:
        if system.blocks:
            for part in "named", "restarted":
                print(f"{system.name}: {part}, s: {spread([x[f'{part}_s'] for x in rows[system]])}")
        parts = [row["parts"] for row in rows[system] if row["parts"]]
        for part in dict.fromkeys(p for row in parts for p in row):
            print(f"{system.name}: {part}, s: {spread([row.get(part) for row in parts])}")


def arguments():
    args = argparse.ArgumentParser()
    args.add_argument("--tries", type=int, default=30)
    args.add_argument("--rate", type=int, default=2000)
    args.add_argument("--wan", choices=["none", "reference"], default="none")
    args.add_argument("--nodes", help="default: us=3 without links, else us=3,eu=2,asia=2")
    args.add_argument("--place", default="us=3", help="where the keyspace has copies")
    args.add_argument("--leader", action="store_true", help="the control leader dies, too")
    args.add_argument("--ack", default="semi-sync:1")
    args.add_argument("--fsync", choices=["always", "everysec"], default="always",
                      help="of Redis (appendfsync); Quire's is always")
    args.add_argument("--only", choices=["quire", "redis"])
    args.add_argument("--quire", default="target/release/quire")
    args.add_argument("--base-port", type=int, default=23001)
    args.add_argument("--keep", help="keep the nodes' directories there")
    args = args.parse_args()
    small = args.wan == "none" and not args.leader
    args.nodes = args.nodes or ("us=3" if small else "us=3,eu=2,asia=2")
    return args


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(args.keep or scratch)
        systems, rows = [], {}
        try:
            if args.only != "redis":
                systems.append(Quire(args, scratch / "quire"))
            if args.only != "quire":
                systems.append(Redis(args, scratch / "redis"))
            for system in systems:
                rows[system] = []
                system.start()
            for number in range(args.tries):
                for system in systems:
                    row = one_try(system, number, args.rate)
                    rows[system].append(row)
                    print(f"{number + 1}/{args.tries} {system.name}: {row}", file=sys.stderr, flush=True)
                    if row["first_s"] is None or row["level_s"] is None:
                        sys.exit(f"{system.name} did not come back; directories: {scratch}")
        finally:
            for system in systems:
                system.stop()
            if any(rows.values()):
                report(systems, rows)
    if any(x["lost_after"] or x["lost_before"] for s in systems for x in rows[s] if s.keeps):
        sys.exit("LOST: writes that the rule promises to keep are missing")


if __name__ == "__main__":
    main()
