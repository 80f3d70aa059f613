"""Everything at once, on seven real processes, judged by a ledger of what clients were told.

    QUIRE_CHAOS_S=1800 python -m pytest -s tests/e2e/chaos.py

It is not part of the other tests, since it takes as long as it is told to: QUIRE_CHAOS_S says how
long (a minute), QUIRE_CHAOS_SEED what happens. One node has a file system of its own, where loop
devices can be mounted, so that its disk can be full or hang.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest
import redis

from cluster import NODES, eventually
from writers import Writers

SECONDS = float(os.environ.get("QUIRE_CHAOS_S", "60"))
SEED = int(os.environ.get("QUIRE_CHAOS_SEED", "1"))
US = ["us-1", "us-2", "us-3"]
OWN_DISK = "us-3"
OWN_DISK_MB = 1536
HEALED_MAX_S = 180
HOUR_MS = 3_600_000


def command(*words, check=True):
    return subprocess.run(words, capture_output=True, text=True, check=check)


class Loader(threading.Thread):
    """Writes as fast as it can, whatever it is told."""

    def __init__(self, cluster, keyspace):
        super().__init__(daemon=True)
        self.cluster, self.keyspace = cluster, keyspace
        self.over = threading.Event()

    def run(self):
        value = "v" * 1000
        n = 0
        while not self.over.is_set():
            node = random.choice(US)
            client = self.cluster.redis(node, db=self.keyspace, socket_timeout=5)
            try:
                while not self.over.is_set():
                    pipe = client.pipeline(transaction=False)
                    for _ in range(500):
                        n += 1
                        pipe.set(f"load:{n % 20000}", value, ex=600)
                    pipe.execute(raise_on_error=False)
            except redis.RedisError:
                time.sleep(0.05)
            finally:
                client.close()


class Chaos:
    def __init__(self, cluster, clocks, own_disk):
        self.cluster, self.clocks, self.own_disk = cluster, clocks, own_disk
        self.random = random.Random(SEED)
        self.happened = {}
        self.copies = cluster.dir.parent / "copies"

    def data(self, node):
        return self.cluster.dir / node / "data"

    def pause(self, most):
        time.sleep(self.random.uniform(0.1, most))

    def restart(self, node):
        if not self.cluster.pid(node):
            self.cluster.server(node)

    def supervise(self):
        """A node that was started while its disk was full ends; what starts it again is its
        supervisor. None ends by itself for any other reason."""
        for node in NODES:
            if not self.cluster.pid(node):
                last = (self.cluster.dir / node / "log").read_text(errors="replace").splitlines()[-1]
                assert "space left" in last, f"{node} has ended: {last}"
                self.restart(node)

    def whole(self):
        """Every copy is a member and fresh, as some node says."""
        self.supervise()
        for node in US:
            try:
                status = self.cluster.status(node)
            except (AssertionError, subprocess.SubprocessError):
                continue
            if any(n["state"] != "up" for n in status["nodes"]):
                return False
            replicas = [
                r for k in status["keyspaces"] for s in k["shards"] for r in s["replicas"]
            ]
            return all(r["caught_up"] and r["role"] != "learner" for r in replicas)
        return False

    # ---- what may happen: each ends as it began ---------------------------------------------

    def kill(self):
        node = self.random.choice(NODES)
        self.cluster.kill(node)
        self.pause(4)
        self.restart(node)

    def kill_all_of_us(self):
        self.cluster.kill(*US)
        for node in self.random.sample(US, 3):
            self.pause(1)
            self.restart(node)

    def end(self):
        node = self.random.choice(NODES)
        pid = self.cluster.pid(node)
        if pid:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not self.cluster.pid(node), 30, f"{node} has ended")
        self.restart(node)

    def stop(self):
        node = self.random.choice(NODES)
        pid = self.cluster.pid(node)
        os.kill(pid, signal.SIGSTOP)
        self.pause(5)
        os.kill(pid, signal.SIGCONT)

    def cut(self):
        a, b = self.random.choice([("us", "eu"), ("eu", "us"), ("us", "asia"), ("asia", "us")])
        self.cluster.run("wan", "cut", a, b)
        self.pause(5)
        eventually(
            lambda: any(
                self.cluster.run("wan", "heal", a, b, node=n).returncode == 0 for n in US
            ),
            30,
            "a cut is healed",
        )

    def step_clock(self):
        node = self.random.choice(NODES)
        self.clocks(node, self.random.choice([HOUR_MS, -HOUR_MS]))
        self.pause(8)
        self.clocks(node, 0)

    def put_back(self):
        node = self.random.choice(["us-1", "us-2"])
        eventually(self.whole, HEALED_MAX_S, "all is whole before a disk is taken", every_s=0.5)
        copy = self.copies / node
        shutil.rmtree(copy, ignore_errors=True)
        self.cluster.kill(node)
        # What a node has set aside grows without end here, and is none of its state.
        aside = shutil.ignore_patterns("set-aside-*", "*.damaged-*")
        shutil.copytree(self.data(node), copy, ignore=aside)
        self.restart(node)
        eventually(self.whole, HEALED_MAX_S, "all is whole before a disk is put back", every_s=0.5)
        self.cluster.kill(node)
        shutil.rmtree(self.data(node))
        shutil.copytree(copy, self.data(node))
        self.restart(node)
        eventually(self.whole, HEALED_MAX_S, "a disk that was put back is refilled", every_s=0.5)

    def full_disk(self):
        room = self.data(OWN_DISK) / "filler"
        command("fallocate", "-l", f"{OWN_DISK_MB}M", str(room), check=False)
        command("dd", "if=/dev/zero", f"of={room}", "bs=1M", "oflag=append", "conv=notrunc", check=False)
        self.pause(5)
        room.unlink()

    def frozen_disk(self):
        command("fsfreeze", "-f", str(self.data(OWN_DISK)))
        try:
            time.sleep(self.random.uniform(1, 8))
        finally:
            command("fsfreeze", "-u", str(self.data(OWN_DISK)))

    def run(self):
        faults = [self.kill, self.kill, self.kill_all_of_us, self.end, self.stop, self.cut]
        faults += [self.step_clock, self.put_back]
        if self.own_disk:
            faults += [self.full_disk, self.frozen_disk]
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            fault = self.random.choice(faults)
            print(f"{SECONDS - (until - time.monotonic()):7.1f} {fault.__name__}", flush=True)
            fault()
            self.happened[fault.__name__] = self.happened.get(fault.__name__, 0) + 1
            self.pause(3)


@pytest.fixture
def chaos(unstarted, set_clock, tmp_path):
    mount = unstarted.dir / OWN_DISK / "data"
    mount.mkdir(parents=True)
    image = tmp_path / "disk.img"
    with open(image, "wb") as file:
        file.truncate(OWN_DISK_MB << 20)
    own_disk = (
        command("mkfs.ext4", "-q", "-F", str(image), check=False).returncode == 0
        and command("mount", "-o", "loop", str(image), str(mount), check=False).returncode == 0
    )
    if own_disk:
        # The node takes what lies there beside its own for somebody's data.
        shutil.rmtree(mount / "lost+found")
    try:
        yield Chaos(unstarted.start(), set_clock, own_disk)
    finally:
        for client in unstarted.clients:
            client.close()
        unstarted.kill(OWN_DISK)
        if own_disk:
            command("umount", "-l", str(mount), check=False)


def test_nothing_is_lost_and_nobody_is_needed(chaos):
    cluster = chaos.cluster
    keyspace = cluster.create("ledger", "ACK", "quorum", "PLACE", "us=3")
    load = cluster.create("load", "PLACE", "us=3")
    loader = Loader(cluster, load)
    loader.start()
    try:
        with Writers(cluster, keyspace, US + ["eu-1"], "w", pause_s=0.01) as writers:
            chaos.run()
            time.sleep(2)
    finally:
        loader.over.set()
        loader.join(30)
    for node in NODES:
        chaos.clocks(node, 0)
        chaos.restart(node)
    eventually(chaos.whole, HEALED_MAX_S, "all is whole again by itself", every_s=0.5)
    for node in US:
        missing, wrong = writers.outcome(node)
        assert not missing, f"{len(missing)} accepted writes are not at {node}: {missing[:3]}"
        assert not wrong, f"{len(wrong)} refused writes are at {node}: {wrong[:3]}"
    assert len(writers.accepted()) > SECONDS, "hardly anything was accepted"
    code, report = cluster.verify("ledger", "us-1")
    assert code == 0, report
    print(json.dumps({"seconds": SECONDS, "accepted": len(writers.accepted()), **chaos.happened}))
