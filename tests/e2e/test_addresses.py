"""Where nodes listen, where they say that they are, and whom they take as a client."""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request

import pytest
import redis

from cluster import BASE_PORT, BINARY, eventually
from trio import NODES, Trio


def loopback_6():
    """Whether this machine has [::1]."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


def own_address():
    """An address of this machine that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                answer = fcntl.ioctl(any_socket, 0x8915, request)  # SIOCGIFADDR
            except OSError:
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                return address
    return None


class Named(Trio):
    """Nodes that are known by name; us-3 by an IP, of version 6 where there is one. us-1 has a
    peer besides whose name nobody knows."""

    def host(self, node):
        if node != "us-3":
            return "localhost"
        return "[::1]" if loopback_6() else "127.0.0.1"

    def at(self, node, more=0):
        return f"{self.host(node)}:{self.port(node) + more}"

    def config(self, node):
        listens = "127.0.0.1" if self.host(node) == "localhost" else self.host(node)
        peers = "".join(
            f'[[cluster.peers]]\nid = "{peer}"\nregion = "us"\npeer_addr = "{self.at(peer, 20)}"\n'
            for peer in NODES
        )
        if node == "us-1":
            peers += '[[cluster.peers]]\nid = "us-9"\nregion = "us"\npeer_addr = "us-9.invalid:7021"\n'
        port = self.port(node)
        return (
            f'id = "{node}"\nregion = "us"\nzone = "a"\ndata_dir = "data"\n'
            f'client_addr = "{listens}:{port}"\nadvertise_client_addr = "{self.at(node)}"\n'
            f'peer_addr = "{listens}:{port + 20}"\nadvertise_peer_addr = "{self.at(node, 20)}"\n'
            f'http_addr = "{listens}:{port + 40}"\nadvertise_http_addr = "{self.at(node, 40)}"\n'
            f'[cluster]\nname = "named"\ncontrol_voters = {json.dumps(NODES)}\n{peers}'
            f"[limits]\ncache_bytes = 67108864\n"
        )

    def redis(self, node, **options):
        return super().redis(node, host=self.host(node).strip("[]"), **options)


def quire(*args, **environment):
    return subprocess.run(
        [BINARY, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture
def named(unstarted, tmp_path):
    cluster = Named(tmp_path / "named").start()
    yield cluster
    cluster.stop()


def test_nodes_know_each_other_by_name_and_tell_clients_names(named):
    named.create("ACK quorum PLACE us=3")
    client = named.redis("us-1")
    assert client.set("k", 1)
    for node in NODES:
        there = named.redis(node)
        eventually(lambda: there.get("k") == "1", 30, f"{node} has it")

    # By the environment, by an argument, by a literal.
    asked = quire("status", "--json", QUIRE_NODE=named.at("us-2"))
    status = json.loads(asked.stdout)
    told = {node["id"]: node["client_addr"] for node in status["nodes"]}
    assert told == {node: named.at(node) for node in NODES}
    for node in NODES:
        shown = quire("status", "--node", named.at(node))
        assert shown.returncode == 0 and named.at("us-3") in shown.stdout, shown
    loaded = quire("bench", "--node", named.at("us-1"), "--keyspace", "main", "--duration", "1s")
    assert loaded.returncode == 0, loaded

    primary = status["keyspaces"][0]["shards"][0]["primary"]
    host = named.host(primary).strip("[]")
    port = named.port(primary)
    other = next(node for node in NODES if node != primary)
    replication = named.redis(other).info("replication")
    assert (replication["master_host"], replication["master_port"]) == (host, port)
    assert named.redis(other).role()[:3] == ["slave", host, port]
    assert f"laddr={named.at(other)} " in named.redis(other).execute_command("CLIENT", "INFO")
    created = client.execute_command("KEYSPACE", "CREATE", "more", "PLACE", "us=1")
    assert f"redis://{named.at('us-1')}/" in created

    # A node that dies is found again by its name.
    named.processes["us-2"].send_signal(signal.SIGKILL)
    named.processes["us-2"].wait()
    eventually(lambda: client.set("k", 2), 30, "writes go on")
    named.server("us-2")

    def is_back():
        try:
            return named.redis("us-2").get("k") == "2"
        except redis.RedisError:
            return False

    eventually(is_back, 60, "us-2 is back")

    # What can't be resolved is tried on, and told once for each way in which it fails.
    lines = [line for line in named.log("us-1").splitlines() if "us-9" in line]
    failed = [line for line in lines if "can't make a link" in line]
    assert 1 <= len(failed) <= 3 and "its name" in failed[0], lines


class Misled(Trio):
    """us-3 tells its peers a name that leads nowhere, and only their configuration knows better."""

    def config(self, node):
        config = super().config(node)
        if node != "us-3":
            return config
        own = f'"127.0.0.1:{self.port(node) + 20}"'
        own = f'[[cluster.peers]]\nid = "us-3"\nregion = "us"\npeer_addr = {own}\n'
        assert own in config
        return f'advertise_peer_addr = "us-3.invalid:7021"\n{config.replace(own, "")}'


class Moving(Trio):
    """Nodes whose ports all become others while they are down."""

    moved = 0

    def port(self, node):
        return super().port(node) + self.moved

    def move(self, by):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(30)
        self.moved += by
        for node in NODES:
            (self.dir / node / "node.toml").write_text(self.config(node))
        return self.start()


def is_everywhere(cluster, key):
    client = cluster.redis("us-1")
    eventually(lambda: client.set(key, "v"), 60, f"{key} is written")
    for node in NODES:
        there = cluster.redis(node)
        eventually(lambda: there.get(key) == "v", 60, f"{node} has {key}")


def test_a_node_that_advertises_what_leads_nowhere_is_reached_by_cluster_peers(unstarted, tmp_path):
    cluster = Misled(tmp_path / "misled")
    try:
        cluster.start().create("ACK quorum PLACE us=3")
        is_everywhere(cluster, "k")

        def said():
            lines = cluster.log("us-1").splitlines()
            return [line for line in lines if "not reached where it says that it is" in line]

        assert "us-3.invalid:7021" in eventually(said, 60, "us-1 says so")[0]
    finally:
        cluster.stop()


def test_a_cluster_that_has_moved_as_a_whole_finds_itself_by_cluster_peers(unstarted, tmp_path):
    cluster = Moving(tmp_path / "moving")
    try:
        cluster.start().create("ACK quorum PLACE us=3")
        is_everywhere(cluster, "before")
        # Every address in the catalog is wrong now, and without each other nobody can change that.
        cluster.move(10)
        is_everywhere(cluster, "after")
        assert cluster.redis("us-2").get("before") == "v"

        def told():
            status = json.loads(cluster.redis("us-2").execute_command("QUIRE", "STATUS"))
            return {node["id"]: node["client_addr"] for node in status["nodes"]}

        moved = {node: f"127.0.0.1:{cluster.port(node)}" for node in NODES}
        eventually(lambda: told() == moved, 20, "the catalog has all new addresses")
    finally:
        cluster.stop()


@pytest.mark.skipif(own_address() is None, reason="this machine has loopback addresses alone")
def test_a_node_in_protected_mode_takes_clients_of_its_machine_only(unstarted, tmp_path):
    address = own_address()
    here, there = f"127.0.0.1:{BASE_PORT}", f"{address}:{BASE_PORT}"
    config = (
        'id = "n-1"\nregion = "us"\nzone = "a"\ndata_dir = "data"\n'
        f'client_addr = "0.0.0.0:{BASE_PORT}"\nadvertise_client_addr = "{here}"\n'
        f'peer_addr = "0.0.0.0:{BASE_PORT + 20}"\nadvertise_peer_addr = "localhost:{BASE_PORT + 20}"\n'
        f'http_addr = "0.0.0.0:{BASE_PORT + 40}"\nadvertise_http_addr = "localhost:{BASE_PORT + 40}"\n'
    )
    rest = '[cluster]\nname = "alone"\ncontrol_voters = ["n-1"]\n'
    file, log = tmp_path / "node.toml", tmp_path / "log"

    def start(mode=""):
        file.write_text(config + mode + rest)
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [BINARY, "server", "--config", file],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        own = redis.Redis(port=BASE_PORT, host="127.0.0.1", decode_responses=True)
        try:
            eventually(own.ping, 60, "it answers its machine")
        except AssertionError:
            process.kill()
            raise
        return process, own

    def stranger():
        return redis.Redis(host=address, port=BASE_PORT, decode_responses=True)

    process, own = start()
    try:
        assert own.config_get("protected-mode") == {"protected-mode": "yes"}
        with pytest.raises(redis.RedisError, match="DENIED.*protected_mode = false"):
            stranger().ping()
        # To one that has sent much already the answer comes as well.
        with socket.create_connection((address, BASE_PORT), timeout=30) as raw:
            raw.sendall(b"*1\r\n$4\r\nPING\r\n" * 1000)
            assert raw.recv(7) == b"-DENIED"
        refused = quire("status", "--node", there)
        assert refused.returncode == 1 and "protected_mode = false" in refused.stderr, refused
        assert quire("status", "--node", here).returncode == 0
        assert own.info("stats")["rejected_connections"] >= 3
        # What a load balancer asks tells nothing, and is answered.
        with urllib.request.urlopen(f"http://{address}:{BASE_PORT + 40}/health") as health:
            assert health.read() == b"ok\n"

        assert own.config_set("protected-mode", "no")
        known = stranger()
        assert known.ping()
        assert own.config_set("protected-mode", "yes")
        assert known.ping(), "who is in stays"
        with pytest.raises(redis.RedisError, match="DENIED"):
            stranger().ping()
        said = log.read_text()
        assert said.count("nodes don't prove who they are") == 1, said
        assert said.count("clients of other machines are turned away") == 1, said
        assert "a client of another machine was turned away" in said
    finally:
        process.terminate()
        process.wait(30)

    process, own = start("protected_mode = false\n")
    try:
        assert own.config_get("protected-mode") == {"protected-mode": "no"}
        assert stranger().ping()
        assert log.read_text().count("protected_mode is off") == 1
    finally:
        process.terminate()
        process.wait(30)


# A network of its own, in which there is one name server, and that never answers.
SILENT = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
sys.exit(subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL).returncode)
"""
ISOLATED = ["unshare", "-n", "-m"]


def can_isolate():
    try:
        return subprocess.run([*ISOLATED, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_isolate(), reason="needs the right to make namespaces")
def test_a_command_ends_in_time_though_its_name_server_does_not_answer(tmp_path):
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
    command = [BINARY, "status", "--node", "db1.example:7001"]
    started = time.monotonic()
    done = subprocess.run(
        [*ISOLATED, sys.executable, "-c", SILENT, resolv, *command],
        capture_output=True,
        text=True,
        timeout=120,
    )
    took = time.monotonic() - started
    assert done.returncode == 1 and "can't connect to db1.example:7001" in done.stderr, done
    # The look-up itself takes 30 s.
    assert took < 20, took
