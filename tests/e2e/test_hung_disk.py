"""A disk that answers nothing, neither with success nor with an error: a file system is frozen
under one node. Each node has one of its own, and its log lines go elsewhere."""

import json
import subprocess
import threading
import time

import pytest
import redis

from cluster import eventually
from trio import NODES, Trio

SIZE_MB = 192
STALL_S = 3


def command(*words, check=True):
    return subprocess.run(words, capture_output=True, text=True, check=check)


class Disks:
    """A file system for each node, in a file behind a loop device."""

    def __init__(self, trio):
        self.trio = trio
        self.mounted = []
        self.frozen = set()

    def mount(self):
        for node in NODES:
            image = self.trio.dir / f"{node}.img"
            with open(image, "wb") as file:
                file.truncate(SIZE_MB << 20)
            command("mkfs.ext4", "-q", "-F", str(image))
            done = command("mount", "-o", "loop", str(image), str(self.trio.data(node)), check=False)
            if done.returncode:
                pytest.skip(f"no loop device can be mounted here: {done.stderr.strip()}")
            self.mounted.append(node)

    def freeze(self, node):
        command("fsfreeze", "-f", str(self.trio.data(node)))
        self.frozen.add(node)

    def thaw(self, node):
        if node in self.frozen:
            self.frozen.remove(node)
            command("fsfreeze", "-u", str(self.trio.data(node)))

    def end(self):
        for node in list(self.frozen):
            self.thaw(node)
        self.trio.stop()
        for node in self.mounted:
            command("umount", "-l", str(self.trio.data(node)), check=False)


@pytest.fixture
def disks(tmp_path):
    disks = Disks(Trio(tmp_path / "t"))
    try:
        disks.mount()
        disks.trio.start()
        yield disks
    finally:
        disks.end()


def writes(trio, node, stop, said):
    """Writes one key again and again over a connection of its own; what it was told, in order."""
    client = trio.redis(node)
    n = 0
    while not stop.is_set():
        n += 1
        try:
            client.set("k", n)
            said.append(("OK", n))
        except redis.RedisError as error:
            said.append((str(error).split()[0], n))
            time.sleep(0.05)


def state(trio, node, of):
    status = json.loads(trio.redis(node).execute_command("QUIRE", "STATUS"))
    return {n["id"]: n["state"] for n in status["nodes"]}[of]


@pytest.mark.parametrize("rule", ["async", "semi-sync:1", "quorum"])
def test_the_primarys_disk_hangs(disks, rule):
    trio = disks.trio
    trio.create(f"ACK {rule} PLACE us=3")
    client = trio.redis("us-1")
    eventually(lambda: client.set("k", 0), 20, "writes are taken")
    old = trio.primary("us-1")
    other = next(node for node in NODES if node != old)
    stop, here, there = threading.Event(), [], []
    writers = [
        threading.Thread(target=writes, args=(trio, old, stop, here)),
        threading.Thread(target=writes, args=(trio, other, stop, there)),
    ]
    for writer in writers:
        writer.start()
    eventually(lambda: here and there, 10, "both write")
    disks.freeze(old)
    try:
        eventually(lambda: trio.primary(other) != old, STALL_S + 20, "another takes over")
        new = trio.primary(other)
        # Writers on either node go on, with the new primary.
        for said in (here, there):
            before = len(said)
            eventually(
                lambda: any(word == "OK" for word, _ in said[before + 1 :]), 20, "writes go on"
            )
        assert state(trio, other, old) == "stalled"
        persistence = trio.redis(old).info("persistence")
        assert persistence["aof_last_write_status"] == "err" and persistence["log_stalled"] == 1
        assert persistence["log_outstanding_ms"] > STALL_S * 1000
        assert f"the disk of {old} has not answered" in trio.quire("events", node=other)
        assert "the disk of the log has not answered" in trio.log(old)
    finally:
        disks.thaw(old)
    eventually(lambda: state(trio, other, old) == "up", 20, "the disk answers again")
    stop.set()
    for writer in writers:
        writer.join()
    # What was refused or unknown was said in these words, and no connection was closed.
    assert {word for word, _ in here + there} <= {"OK", "UNKNOWN", "NOPRIMARY", "MASTERDOWN"}
    assert trio.primary(other) == new
    check = lambda: "equal" in trio.quire("verify", "--keyspace", "main", node=new)
    eventually(check, 30, "the former primary follows", every_s=0.5)


def test_a_replicas_disk_hangs(disks):
    trio = disks.trio
    trio.create("ACK quorum PLACE us=3")
    client = trio.redis("us-1")
    eventually(lambda: client.set("k", 0), 20, "writes are taken")
    primary = trio.primary("us-1")
    hung = next(node for node in NODES if node != primary)
    disks.freeze(hung)
    try:
        writer, reader = trio.redis(primary), trio.redis(hung)
        deadline, n = time.monotonic() + STALL_S + 3, 0
        while time.monotonic() < deadline:
            n += 1
            assert writer.set("k", n)
            time.sleep(0.02)
        eventually(lambda: state(trio, primary, hung) == "stalled", 20, "it is said")
        # Its node answers for it, from others.
        assert writer.set("k", "last")
        eventually(lambda: reader.get("k") == "last", 5, "reads go elsewhere")
        assert reader.set("l", 1)
    finally:
        disks.thaw(hung)
    eventually(lambda: state(trio, primary, hung) == "up", 20, "the disk answers again")
    assert trio.primary(primary) == primary
    check = lambda: "equal" in trio.quire("verify", "--keyspace", "main", node=primary)
    eventually(check, 30, "it catches up", every_s=0.5)


def test_the_control_leaders_disk_hangs(disks):
    trio = disks.trio
    trio.create("ACK async PLACE us=1")
    client = trio.redis("us-1")
    eventually(lambda: client.set("k", 0), 20, "writes are taken")

    def leader(node):
        return json.loads(trio.redis(node).execute_command("QUIRE", "STATUS"))["control"]["leader"]

    # It finds its place, which is none with a primary.
    time.sleep(3)
    old = eventually(lambda: leader("us-1"), 20, "somebody leads")
    other = next(node for node in NODES if node != old)
    disks.freeze(old)
    try:
        asked = trio.redis(other)
        create = ["KEYSPACE", "CREATE", "more", "PLACE", "us=1"]
        made = lambda: "more" in str(asked.execute_command("KEYSPACE", "LIST"))

        def check():
            if not made():
                asked.execute_command(*create)
            return made()

        eventually(check, 40, "the group agrees on something")
        assert leader(other) != old
    finally:
        disks.thaw(old)
    eventually(lambda: leader(old) == leader(other), 20, "all follow one leader")
