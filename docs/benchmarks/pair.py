"""Quire and redis-server, or another build of Quire, side by side: both started, measured in turn,
and stopped.

`servers` starts one node of each on loopback, in temporary directories, with every write synced
before its answer. `in_turn` measures cells: a cell has a name and a function from a port to
figures ({figure: number}). The two take turns within every cell, and who is first changes from
round to round, so that a machine whose speed drifts is no advantage to either.
"""

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

REDIS = ["redis-server", "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always",
         "--save", ""]


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


@contextlib.contextmanager
def one_node(quire: str, directory: str, port: int, env: dict | None = None):
    """A Quire of one node, as long as the context lasts; `env`: further variables."""
    process = subprocess.Popen(
        [quire, "demo", "--dir", directory, "--nodes", "us=1", "--wan", "none", "--base-port",
         str(port), "--no-workload"],
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=os.environ | (env or {}))
    try:
        if not any(line.strip() == "ready" for line in process.stdout):
            sys.exit("the demo ended before it was ready")
        yield
    finally:
        stop(process)


@contextlib.contextmanager
def servers(quire: str, env: dict | None = None, beside: str | None = None):
    """The client ports of a Quire of one node and of a redis-server, or, with `beside`, of one node
    of that build of Quire; `env`: variables for both."""
    with contextlib.ExitStack() as stack:
        quire_dir, other_dir = (
            stack.enter_context(tempfile.TemporaryDirectory(prefix="quire-benchmark-"))
            for _ in range(2))
        quire_port, other_port = free_port(), free_port()

        stack.enter_context(one_node(quire, quire_dir, quire_port, env))
        if beside:
            stack.enter_context(one_node(beside, other_dir, other_port, env))
        else:
            redis = subprocess.Popen([*REDIS, "--port", str(other_port), "--dir", other_dir],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     env=os.environ | (env or {}))
            stack.callback(stop, redis)
            wait_for(other_port)
        yield quire_port, other_port


def stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def in_turn(cells, ports, rounds: int):
    """{cell: [(figures of Quire, figures of the other), one a round]}."""
    found = {name: [] for name in cells}
    for number in range(rounds):
        for name, measure in cells.items():
            order = (0, 1) if number % 2 == 0 else (1, 0)
            figures = {side: measure(ports[side]) for side in order}
            found[name].append((figures[0], figures[1]))
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return found


def machine() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def report_rates(found, other: str = "redis") -> None:
    """Medians of the rates, and the median, least and greatest of the rounds' ratios."""
    print(f"| test | quire/s | {other}/s | ratio | least | greatest | ratios, round by round |")
    print("|---|---|---|---|---|---|---|")
    medians = []
    for name, rounds in found.items():
        ours, theirs = ([side["rate"] for side in sides] for sides in zip(*rounds))
        ratios = [a / b for a, b in zip(ours, theirs)]
        medians.append(statistics.median(ratios))
        each = " ".join(f"{r:.2f}" for r in ratios)
        print(f"| {name} | {statistics.median(ours):,.0f} | {statistics.median(theirs):,.0f} | "
              f"{medians[-1]:.2f} | {min(ratios):.2f} | {max(ratios):.2f} | {each} |")
    print(f"\ngeometric mean of the ratios: {statistics.geometric_mean(medians):.2f}")


def report_latencies(found, other: str = "redis") -> None:
    """Medians over the rounds of each latency that was measured; the figures of two rounds are
    not added up, so that one bad round doesn't make the tail of all."""
    shown = {name: rounds for name, rounds in found.items()
             if any(figure != "rate" for figure in rounds[0][0])}
    if not shown:
        return
    print(f"\n| test | latency | quire ms | least to greatest | {other} ms | least to greatest |")
    print("|---|---|---|---|---|---|")
    for name, rounds in shown.items():
        for figure in rounds[0][0]:
            if figure == "rate":
                continue
            line = f"| {name} | {figure} |"
            for side in zip(*rounds):
                values = [figures[figure] for figures in side]
                line += f" {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} |"
            print(line)
