"""The command line as people meet it: what it says when something is wrong, what fits a screen,
and what a supervisor may send a node."""

import contextlib
import fcntl
import http.server
import json
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
import urllib.request

import pytest
import redis

from cluster import BASE_PORT, BINARY, are_free, eventually

COLUMNS = 80


def run(*args, within_s=20, **env):
    """Runs `quire` without a terminal."""
    return subprocess.run(
        [BINARY, *map(str, args)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        env=os.environ | {"QUIRE_NODE": f"127.0.0.1:{BASE_PORT}"} | env,
    )


def on_terminal(*args, within_s=20, **env):
    """What `quire` shows on a terminal of 80 columns."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [BINARY, *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=secondary,
        stderr=subprocess.PIPE,
        env=os.environ | {"QUIRE_NODE": f"127.0.0.1:{BASE_PORT}", "TERM": "xterm"} | env,
    )
    os.close(secondary)
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(primary, 65536):
            shown += part
    os.close(primary)
    errors = process.communicate(timeout=within_s)[1]
    assert process.returncode == 0, errors
    return shown.decode().replace("\r\n", "\n")


def widest(text):
    return max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in text.splitlines())


class Node:
    """A cluster of one node, without the demo."""

    def __init__(self, directory, port=BASE_PORT, data_dir="data", top=""):
        self.dir, self.port = directory, port
        directory.mkdir(parents=True, exist_ok=True)
        self.config = directory / "node.toml"
        self.text = (
            'id = "us-1"\nregion = "us"\nzone = "a"\n'
            f'client_addr = "127.0.0.1:{port}"\npeer_addr = "127.0.0.1:{port + 20}"\n'
            f'http_addr = "127.0.0.1:{port + 40}"\ndata_dir = "{data_dir}"\n'
        )
        self.cluster = '[cluster]\nname = "one"\ncontrol_voters = ["us-1"]\n'
        self.write(top)
        self.process = None

    def write(self, top="", end=""):
        self.config.write_text(f"{top}\n{self.text}{self.cluster}{end}\n")

    def start(self, *options, **env):
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "server", "--config", self.config, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | env,
            )
        return self

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    def ping(self):
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(b"PING\r\n")
            return client.recv(100) == b"+PONG\r\n"

    def answers(self):
        try:
            return self.ping()
        except OSError:
            return False

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def alone(unstarted):
    """No cluster runs: its ports are free."""
    return unstarted


@pytest.fixture
def node(alone, tmp_path):
    node = Node(tmp_path / "node")
    yield node
    node.stop()


# ---- what a package is made of -----------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "elvish", "powershell"])
def test_completions_are_a_script_of_that_shell(shell):
    done = run("completions", shell)
    assert done.returncode == 0 and "quire" in done.stdout and "keyspace" in done.stdout
    if shutil.which(shell) and shell != "powershell":
        checked = subprocess.run([shell, "-n"], input=done.stdout, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr


def test_each_command_has_a_manual_page(tmp_path):
    done = run("man", tmp_path / "man")
    assert done.returncode == 0, done.stderr
    pages = {page.name: page.read_text() for page in (tmp_path / "man").iterdir()}
    for name in ["quire.1", "quire-server.1", "quire-keyspace-create.1", "quire-demo-kill.1"]:
        assert ".SH NAME" in pages[name] and ".SH SYNOPSIS" in pages[name], name
    assert "QUIRE_NODE" in pages["quire-status.1"]
    if shutil.which("groff"):
        for name in pages:
            shown = subprocess.run(
                ["groff", "-man", "-Tutf8", "-ww", tmp_path / "man" / name],
                capture_output=True,
                text=True,
            )
            assert shown.returncode == 0 and shown.stdout, shown.stderr


def test_the_examples_of_keyspace_create_work(shared):
    text = run("keyspace", "create", "--help").stdout
    for keyword in ["PLACE", "ACK", "ON_TIMEOUT", "FAILOVER", "semi-sync:k@region", "degrade"]:
        assert keyword in text, keyword
    assert widest(on_terminal("keyspace", "create", "--help")) <= COLUMNS
    examples = text.split("Examples:")[1].replace("\\\n", " ").strip().splitlines()
    assert len(examples) >= 3
    for example in examples:
        words = shlex.split(example)
        assert words[:3] == ["quire", "keyspace", "create"]
        name = words[3] + "-example"
        done = run("keyspace", "create", name, *words[4:])
        assert done.returncode == 0, (example, done.stderr)
        assert run("keyspace", "drop", name, "--yes").returncode == 0


# ---- errors name the cause ---------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "bench", "load nothing.jsonl", "wan show"])
def test_an_address_without_a_port_is_told_to_have_one(command):
    done = run(*command.split(), "--node", "127.0.0.1")
    assert done.returncode == 2 and "add a port, as in 127.0.0.1:7001" in done.stderr, done
    done = run(*command.split(), QUIRE_NODE="localhost")
    assert done.returncode == 2 and "add a port, as in localhost:7001" in done.stderr, done


def test_the_environment_names_the_node(shared):
    for command in [("status",), ("events",), ("keyspace", "list"), ("wan", "show")]:
        assert run(*command, QUIRE_NODE=f"127.0.0.1:{shared.port('eu-1')}").returncode == 0
        done = run(*command, QUIRE_NODE="127.0.0.1:1")
        assert done.returncode == 1 and "127.0.0.1:1" in done.stderr, done
        # What is said goes before it.
        where = ("--node", f"127.0.0.1:{shared.port('eu-1')}")
        assert run(*command, *where, QUIRE_NODE="127.0.0.1:1").returncode == 0


def test_what_is_no_node_is_called_that(shared, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        redis_port = probe.getsockname()[1]
    redis_server = subprocess.Popen(
        ["redis-server", "--port", str(redis_port), "--save", "", "--dir", tmp_path],
        stdout=subprocess.DEVNULL,
    )
    web = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
    )
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        eventually(redis.Redis(port=redis_port).ping, 20, "redis-server listens")
        for port, says in [
            (redis_port, "Redis"),
            (web.server_address[1], "HTTP"),
            (shared.port("us-1") + 40, "HTTP"),
        ]:
            for command in [("status",), ("keyspace", "list"), ("events",)]:
                done = run(*command, "--node", f"127.0.0.1:{port}")
                assert done.returncode == 1, done
                assert "is not a Quire node" in done.stderr and says in done.stderr, done.stderr
    finally:
        redis_server.kill()
        redis_server.wait()
        web.shutdown()
    done = run("status", "--node", f"127.0.0.1:{shared.port('us-1') + 20}")
    assert done.returncode == 1 and "peer address" in done.stderr, done.stderr


def test_a_data_directory_has_one_process(node, tmp_path):
    node.start()
    eventually(node.answers, 30, "the node answers")
    again = subprocess.run(
        [BINARY, "server", "--config", node.config], capture_output=True, text=True, timeout=30
    )
    assert again.returncode == 1 and "running already" in again.stderr, again.stderr
    other = Node(tmp_path / "other", node.port + 1, data_dir=node.dir / "data")
    other.start()
    try:
        assert other.process.wait(30) == 1
        assert f"another process ({node.process.pid}) uses the data directory" in other.log()
    finally:
        other.stop()
    assert node.ping()


# ---- screens -----------------------------------------------------------------------------


def test_the_screens_fit_80_columns(shared):
    shared.caught_up()
    for command in ["status", "events", "keyspace list", "wan show"]:
        assert widest(on_terminal(*command.split())) <= COLUMNS, command
    shown = run("status").stdout
    assert widest(shown) <= COLUMNS
    assert re.search(r"control group: \S+ leads; voters us-1, us-2, eu-1", shown), shown
    assert re.search(r"version: \d+\.\d+\.\d+", shown), shown
    # Nobody writes: each replica is level, whatever the heartbeats' age.
    eventually(lambda: run("status").stdout.count(" level\n") >= 6, 20, "six replicas are level")
    status = shared.status()
    for facts in status["nodes"]:
        assert facts["version"] and facts["uptime_ms"] > 0, facts
    for replica in status["keyspaces"][0]["shards"][0]["replicas"]:
        assert replica["keys"] is not None and replica["bytes"] is not None, replica


def test_who_is_gone_is_shown_with_what_it_said_last(cluster):
    cluster.quire("wan", "cut", "us", "eu")

    def heard_one_way():
        replicas = cluster.shards("profiles")[0]["replicas"]
        last = {r["node"]: r["last"] for r in replicas}
        assert last["asia-1"] is None, last
        return last["eu-1"] and last["eu-1"]["lag_ms"] > 2_000 and last["eu-1"]["age_ms"] < 2_000

    # What Europe says still arrives: its lag grows, and what is known of it is of now.
    eventually(heard_one_way, 30, "the lag behind a cut is shown")
    cluster.kill("asia-2")

    def gone():
        shown = run("status").stdout
        return re.search(r"asia-2 +replica .* \d+, \d+s ago\n", shown), shown

    eventually(lambda: gone()[0], 30, "the last known lag of asia-2 is shown with its age")
    down = "\x1b[1m\x1b[31mdown\x1b[0m"
    assert down in on_terminal("status")
    for plain in [on_terminal("status", NO_COLOR="1"), run("status").stdout]:
        assert "down" in plain and "\x1b" not in plain
    assert widest(on_terminal("status")) <= COLUMNS


# ---- a node and its supervisor -----------------------------------------------------------


def test_hangups_leave_a_node_serving(node):
    node.start()
    eventually(node.answers, 30, "the node answers")

    def hang_up(says):
        before = len(node.log())
        node.process.send_signal(signal.SIGHUP)
        eventually(lambda: says in node.log()[before:], 20, f"the log says {says!r}")
        assert node.ping() and node.process.poll() is None
        return node.log()[before:]

    hang_up("the configuration is read again")
    node.write(top='log_filter = "node=loud"')
    assert "log_filter" in hang_up("goes on as it was")
    node.write(end="nonsense = 1")
    assert "nonsense" in hang_up("goes on as it was")
    limits = "[limits]\nmax_clients = 77\ncommand_work_max = 2000000"
    node.write(top='log_filter = "info,server=debug"', end=limits)
    said = hang_up("is read again")
    assert "limits.max_clients" in said and "next start" in said
    assert "command_work_max" not in said
    client = redis.Redis(port=node.port)
    client.execute_command("KEYSPACE", "CREATE", "kept", "PLACE", "us=1")
    with pytest.raises(redis.ResponseError, match="limits.command_work_max is 2000000"):
        client.execute_command("MGET", *["k"] * 2000)
    # A filter that lets nothing through is in force at once: nothing is said of the next.
    node.write(top='log_filter = "off"')
    node.process.send_signal(signal.SIGHUP)
    assert eventually(node.ping, 5, "it answers")
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(20) == 0


def test_a_hangup_at_any_time_does_not_end_a_start(node):
    node.start()
    deadline = time.monotonic() + 30
    while not node.answers():
        assert time.monotonic() < deadline and node.process.poll() is None, node.log()
        # From when the process has taken its first log line on.
        if "Quire starts" in node.log():
            node.process.send_signal(signal.SIGHUP)
        time.sleep(0.002)
    assert node.ping() and node.process.poll() is None


def test_log_lines_say_what_starts_as_text_or_json(node):
    node.start("--log-format", "json", RUST_LOG="")
    eventually(node.answers, 30, "the node answers")
    eventually(lambda: "serves" in node.log(), 5, "it says that it serves")
    lines = [json.loads(line) for line in node.log().splitlines()]
    first = next(line for line in lines if line["message"] == "Quire starts")
    version = run("--version").stdout.split()[1]
    assert first["version"] == version and first["node"] == "us-1", first
    assert first["clients"] == f"127.0.0.1:{node.port}", first
    assert first["data_dir"] == str(node.dir / "data"), first
    assert not any(line["target"].startswith("lsm_tree") for line in lines)
    assert "Quire starts" in lines[0]["message"], lines[0]


# ---- the demo from a second terminal -----------------------------------------------------


def order(cluster, *words):
    return run("demo", *words, "--dir", cluster.dir, within_s=60)


def test_a_demos_nodes_are_killed_stopped_and_started(cluster):
    pid = cluster.pid("us-1")
    done = order(cluster, "kill", "us-1")
    assert done.returncode == 0 and f"us-1 is killed (process {pid})" in done.stdout, done
    assert cluster.pid("us-1") is None
    for words in [("kill", "us-1"), ("stop", "us-1")]:
        done = order(cluster, *words)
        assert done.returncode == 1 and "us-1 does not run" in done.stderr, done
    done = order(cluster, "start", "us-1")
    assert done.returncode == 0 and f"process {cluster.pid('us-1')}" in done.stdout, done
    # It takes clients as soon as the order is answered.
    assert cluster.redis("us-1").ping()
    done = order(cluster, "start", "us-1")
    assert done.returncode == 1 and "runs already" in done.stderr, done
    assert order(cluster, "stop", "eu-1").returncode == 0
    log = (cluster.dir / "eu-1" / "log").read_text()
    assert cluster.pid("eu-1") is None and "panicked" not in log
    done = order(cluster, "kill", "mars-1")
    assert done.returncode == 1 and "there is no node mars-1: use asia-1" in done.stderr, done
    assert cluster.demo.poll() is None


def test_nodes_started_by_hand_are_named_when_a_demo_ends(cluster):
    assert order(cluster, "kill", "asia-2").returncode == 0
    by_hand = cluster.server("asia-2")
    eventually(lambda: cluster.redis("asia-2").ping(), 30, "asia-2 answers")
    for word in ["start", "kill"]:
        done = order(cluster, word, "asia-2")
        assert done.returncode == 1 and f"kill {by_hand.pid}" in done.stderr, done
    cluster.demo.send_signal(signal.SIGINT)
    cluster.demo.wait(15)
    assert f"asia-2 still runs on {cluster.dir}" in cluster.said(), cluster.said()
    assert f"kill {by_hand.pid}" in cluster.said()
    done = order(cluster, "kill", "us-1")
    assert done.returncode == 1 and "no demo runs in" in done.stderr, done


def demo(tmp_path, *options, within_s=120):
    """A demo in its default directory; what it said up to `ready`."""
    process = subprocess.Popen(
        [BINARY, "demo", "--base-port", str(BASE_PORT), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    said = []
    timer = threading.Timer(within_s, process.kill)
    timer.start()
    for line in process.stdout:
        said.append(line.rstrip("\n"))
        if said[-1] == "ready":
            break
    timer.cancel()
    assert said and said[-1] == "ready", "\n".join(said)
    return process, said


def end(process):
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=20)[0]
    assert process.returncode == 0 and "stopped" in rest, rest


def test_a_demo_in_its_default_directory_is_found_and_leaves_nothing(alone, tmp_path):
    options = ("--base-port", BASE_PORT)
    missing = run("demo", "kill", "us-1", *options, TMPDIR=str(tmp_path))
    assert missing.returncode == 1 and "no demo runs in" in missing.stderr, missing
    process, said = demo(tmp_path, "--no-workload", "--nodes", "us=1", "--wan", "none")
    try:
        # What it says works, and no more is said.
        urls = re.findall(r"http://\S+", "\n".join(said))
        assert urls
        for url in urls:
            assert urllib.request.urlopen(url, timeout=5).status == 200, url
        assert not any("profile:" in line for line in said), "there are no profiles"
        commands = [line.strip() for line in said if line.startswith(" quire ")]
        kill = next(line for line in commands if " kill " in line)
        done = run(*shlex.split(kill)[1:], TMPDIR=str(tmp_path))
        assert done.returncode == 0 and "is killed" in done.stdout, done
        start = next(line for line in commands if " start " in line)
        done = run(*shlex.split(start)[1:], TMPDIR=str(tmp_path), within_s=60)
        assert done.returncode == 0, done
    finally:
        end(process)
    assert not list(tmp_path.glob("quire-demo-*"))

    # What a demo that was killed leaves is cleared by the next.
    process, said = demo(tmp_path, "--no-workload", "--nodes", "us=1", "--wan", "none")
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(list(tmp_path.glob("quire-demo-*"))) == 1
    eventually(lambda: cluster_ports_are_free(), 20, "the node ends with its demo")
    process, said = demo(tmp_path, "--no-workload", "--nodes", "eu=1", "--wan", "none")
    end(process)
    assert not list(tmp_path.glob("quire-demo-*"))


def cluster_ports_are_free():
    return are_free(BASE_PORT, BASE_PORT + 20, BASE_PORT + 40)


def test_what_a_demo_shows_fits_80_columns(alone, tmp_path):
    process, said = demo(tmp_path, "--nodes", "us=2,eu=1,asia=1", "--by-node", within_s=240)
    try:
        text = "\n".join(said)
        # Where the temporary directory is, is not the demo's choice.
        wide = [line for line in said if len(line) > COLUMNS and str(tmp_path) not in line]
        assert not wide, "\n".join(wide)
        assert f"127.0.0.1:{BASE_PORT} " in text, text
        if len(os.sched_getaffinity(0)) < 4:
            assert "latency can't be judged on this machine" in text, text
        judged = [line for line in said if line.endswith("MISSED")]
        if "can't be judged" in text:
            assert not any("p99" in line or "lag" in line for line in judged), text
        example = next(line for line in said if "HGETALL" in line).split()
        done = subprocess.run(
            ["redis-cli", *example[1:]], capture_output=True, text=True, timeout=20
        )
        assert done.stdout.strip(), (example, done)
    finally:
        end(process)
