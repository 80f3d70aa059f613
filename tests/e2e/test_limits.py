"""What clients can take of a node is bounded, said, and taken from nobody else: file descriptors,
memory for what they have not finished, and the node's time while replicas are compared."""

import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
import redis

from cluster import BINARY, eventually

FULL = b"-ERR max number of clients reached\r\n"
MB = 1 << 20


def connect(cluster, node="us-1"):
    sock = socket.create_connection(("127.0.0.1", cluster.port(node)))
    sock.settimeout(10)
    return sock


def memory(pid, what):
    """`VmHWM` or `VmRSS` of a process, in bytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) << 10
    raise AssertionError(what)


def until_closed(sock):
    """All that comes until the other end closes."""
    got = b""
    try:
        while part := sock.recv(65536):
            got += part
    except ConnectionError:
        pass
    return got


def push(sock, data):
    """Sends as much as is taken; whether that was all."""
    try:
        sock.sendall(data)
        return True
    except OSError:
        return False


def log_of(cluster, node):
    return (cluster.dir / node / "log").read_text(errors="replace")


# ---- what is refused, and what is listed ------------------------------------------------


def test_a_web_page_writes_nothing(shared):
    us1 = shared.redis("us-1")
    body = b"SET pwned 1\r\n"
    for head in (b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n"):
        sock = connect(shared)
        push(sock, head + b"Content-Length: 13\r\n\r\n" + body)
        until_closed(sock)
    assert us1.get("pwned") is None
    assert "POST or Host: came as a command" in log_of(shared, "us-1")
    # A key may be called so.
    assert us1.set("host:", 1) and us1.get("host:") == "1" and us1.delete("host:")


def test_client_list_can_not_be_forged(shared):
    us1 = shared.redis("us-1", lib_name=None, lib_version=None)
    for attribute in ("LIB-NAME", "LIB-VER"):
        for value in ("a b", "x\nid=1 addr=1.1.1.1:1", "é"):
            with pytest.raises(redis.ResponseError, match=f"{attribute} cannot contain spaces"):
                us1.execute_command("CLIENT", "SETINFO", attribute, value)
    with pytest.raises(redis.ResponseError, match="cannot contain spaces"):
        us1.execute_command("CLIENT", "SETNAME", "a b")
    with pytest.raises(redis.ResponseError, match="cannot be longer"):
        us1.execute_command("CLIENT", "SETNAME", "x" * 5000)
    assert us1.execute_command("CLIENT", "SETINFO", "lib-name", "fine") in (True, "OK")


def test_a_killed_client_is_gone_at_once(shared):
    us1 = shared.redis("us-1")
    # It neither reads nor closes.
    sock = connect(shared)
    sock.sendall(b"CLIENT ID\r\n")
    number = int(sock.recv(100)[1:])
    pipe = us1.pipeline(transaction=False)
    for _ in range(2):
        pipe.execute_command("CLIENT", "KILL", "ID", number)
    pipe.execute_command("CLIENT", "LIST", "ID", number)
    assert pipe.execute() in ([1, 0, []], [1, 0, ""])


# ---- unfinished input -------------------------------------------------------------------


def test_what_can_not_be_taken_is_refused_at_its_length(shared):
    us1 = shared.redis("us-1")
    most = int(us1.config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    assert most < 64 * MB
    pid = shared.pid("us-1")
    before = memory(pid, "VmHWM")
    socks = [connect(shared) for _ in range(10)]
    for sock in socks:
        sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000000\r\n")
        push(sock, b"x" * MB)
    for sock in socks:
        assert until_closed(sock) == b"-ERR Protocol error: invalid bulk length\r\n"
    assert memory(pid, "VmHWM") - before < 64 * MB
    # Just below it is taken whole, or refused as a command is; the connection goes on.
    with pytest.raises(redis.ResponseError, match="fit into one command"):
        us1.set("k", "x" * most)
    assert us1.ping()


def test_unfinished_input_is_shown_and_bounded(cluster):
    us1 = cluster.redis("us-1")
    pid = cluster.pid("us-1")
    most = us1.info("memory")["mem_clients_input_max"]

    def shown(sock_name):
        lines = us1.client_list()
        return next((c for c in lines if c["name"] == sock_name), None)

    # One of each kind: a bulk string, a transaction, an array of very many arguments, commands
    # that wait behind another.
    kinds = {
        "bulk": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$15000000\r\n" + b"x" * (10 * MB),
        "multi": b"MULTI\r\n" + b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n" + b"x" * 10**6 + b"\r\n",
        "array": b"*1000000\r\n" + b"$1\r\nx\r\n" * 900_000,
        "behind": b"DEBUG SLEEP 600\r\n" + b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n" + b"x" * 10**6 + b"\r\n",
    }
    socks = {}
    for name, data in kinds.items():
        socks[name] = connect(cluster)
        socks[name].sendall(b"CLIENT SETNAME %s\r\n" % name.encode() + data)
    eventually(lambda: int(shown("bulk")["qbuf"]) >= 10 * MB, 10, "qbuf")
    eventually(lambda: int(shown("multi")["multi-mem"]) >= 10**6, 10, "multi-mem")
    eventually(lambda: int(shown("array")["argv-mem"]) >= 900_000 * 8, 20, "argv-mem of headers")
    eventually(lambda: int(shown("behind")["argv-mem"]) >= 10**6, 10, "argv-mem of what waits")
    for name in kinds:
        assert int(shown(name)["tot-mem"]) > 10**6, name
    assert us1.info("memory")["mem_clients_input"] > 20 * MB
    assert us1.info("clients")["client_recent_max_input_buffer"] >= 10 * MB
    for sock in socks.values():
        sock.close()
    eventually(lambda: us1.info("memory")["mem_clients_input"] < MB, 10, "all of it is let go")

    # Far more than may be held, by many: some are closed, the node stays small, others go on.
    peak = memory(pid, "VmRSS")
    flood, part = [], b"x" * MB
    for n in range(40):
        sock = connect(cluster)
        if push(sock, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$15000000\r\n"):
            flood.append(sock)
        for _ in range(14):
            push(sock, part)
        peak = max(peak, memory(pid, "VmRSS"))
        assert us1.set("meanwhile", n)
    info = us1.info()
    assert info["mem_clients_input"] <= most
    assert info["evicted_clients"] > 0
    assert "the one with the most is closed" in log_of(cluster, "us-1")
    assert us1.info("persistence") and cluster.status("us-1")
    assert memory(pid, "VmHWM") < 1300 * MB, memory(pid, "VmHWM")
    for sock in flood:
        sock.close()
    eventually(lambda: us1.info("memory")["mem_clients_input"] < MB, 10, "all of it is let go")


# ---- file descriptors -------------------------------------------------------------------


def start_with_files(cluster, node, soft, hard):
    with open(cluster.dir / node / "log", "ab") as log:
        process = subprocess.Popen(
            [BINARY, "server", "--config", cluster.dir / node / "node.toml"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        )
    cluster.by_hand.append(process)
    return process


def test_clients_do_not_take_the_descriptors_of_log_and_store(cluster):
    cluster.kill("us-3")
    process = start_with_files(cluster, "us-3", 256, 1024)
    us3 = cluster.redis("us-3")
    eventually(us3.ping, 15, "us-3 answers")
    limits = pathlib.Path(f"/proc/{process.pid}/limits").read_text()
    files = next(line for line in limits.splitlines() if line.startswith("Max open files"))
    assert files.split()[3:5] == ["1024", "1024"], files
    clients_max = us3.info("clients")["maxclients"]
    assert 300 <= clients_max < 1024
    assert us3.config_get("maxclients") == {"maxclients": str(clients_max)}
    assert "max_clients is lowered" in log_of(cluster, "us-3")

    cluster.create("kept", "PLACE", "us=3")
    us1 = cluster.redis("us-1", db=cluster.redis("us-1").execute_command("KEYSPACE", "SHOW", "kept")[1])
    idle = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        refused = 0
        for _ in range(1100):
            sock = connect(cluster, "us-3")
            idle.append(sock)
        for sock in idle:
            sock.settimeout(0.001)
            try:
                refused += sock.recv(100) == FULL
            except TimeoutError:
                pass
        assert refused >= 1100 - clients_max - 8, refused
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < 1024
        # Administration gets through, others are told; those that are there go on.
        eventually(lambda: cluster.status("us-3"), 5, "quire status")
        listed = eventually(lambda: cluster.redis("us-3", lib_name=None, lib_version=None).client_list(), 5, "CLIENT LIST")
        assert len(listed) >= clients_max
        with pytest.raises(redis.RedisError, match="max number of clients"):
            cluster.redis("us-3", lib_name=None, lib_version=None).set("x", 1)
        # Log and store get their files: several log files' worth of writes.
        value = "y" * 100_000
        for n in range(2000):
            us1.set(f"k:{n}", value)
        assert us3.get("x") is None
        assert process.poll() is None
        eventually(
            lambda: all(r["caught_up"] for s in cluster.shards("kept") for r in s["replicas"]),
            60,
            "us-3 keeps up",
        )
    finally:
        for sock in idle:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: cluster.redis("us-3").set("x", 1), 10, "there is room again")


def test_too_few_descriptors_are_said(cluster):
    cluster.kill("us-3")
    process = start_with_files(cluster, "us-3", 128, 128)
    assert process.wait(10) != 0
    assert "ulimit -n" in log_of(cluster, "us-3")


# ---- comparing --------------------------------------------------------------------------


def test_verify_holds_up_nobody_and_tells_outcomes_apart(cluster):
    number = cluster.create("big", "PLACE", "us=3")
    us1 = cluster.redis("us-1", db=number)
    value = "z" * 1_000_000
    pipe = us1.pipeline(transaction=False)
    for n in range(300):
        pipe.set(f"k:{n}", value)
        if n % 10 == 9:
            pipe.execute()
    eventually(
        lambda: all(r["caught_up"] for s in cluster.shards("big") for r in s["replicas"]),
        60,
        "replicas catch up",
    )
    epochs = [(s["id"], s["epoch"]) for s in cluster.shards("big")]
    events = cluster.quire("events", "--json")

    # Writes and reads go on meanwhile; nobody takes over.
    over = threading.Event()
    writes = []

    def write():
        client = redis.Redis(port=cluster.port("us-1"), db=number, socket_timeout=20)
        while not over.is_set():
            began = time.monotonic()
            client.set(f"w:{len(writes) % 1000}", len(writes))
            writes.append(time.monotonic() - began)
        client.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        code, report = cluster.verify("big")
    finally:
        over.set()
        writer.join()
    assert (code, report["verdict"], report["equal"]) == (0, "equal", True), report
    assert len(writes) > 10, "writes went on"
    assert [(s["id"], s["epoch"]) for s in cluster.shards("big")] == epochs
    assert cluster.quire("events", "--json") == events

    # Who could not be asked does not differ.
    pid = cluster.pid("us-3")
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(1.5)
        code, report = cluster.verify("big")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (code, report["verdict"], report["equal"]) == (3, "incomplete", False), report
    states = {r["node"]: r for s in report["shards"] for r in s["replicas"]}
    assert {node: r["state"] for node, r in states.items()} == {"us-1": "ok", "us-2": "ok", "us-3": "missing"}
    assert "can't be reached" in states["us-3"]["why"]
    assert not any(s["differences"] for s in report["shards"])

    # Whoever asked and goes takes it along.
    eventually(lambda: cluster.verify("big")[0] == 0, 60, "us-3 is back")
    asked = connect(cluster)
    asked.sendall(b"QUIRE VERIFY big\r\n")

    def under_way():
        return json.loads(us1.execute_command("QUIRE", "VERIFICATIONS"))["verifications"]

    found = eventually(under_way, 10, "it is under way", every_s=0.001)
    assert found[0]["keyspace"] == "big"
    asked.close()
    eventually(lambda: not under_way(), 10, "it ends")
