"""Three nodes of one region, and damage to what one of them has on its disk: it is repaired from the
others by itself, or the start is refused with a sentence that says what to do. Where and how is drawn at
random; QUIRE_SEED repeats it."""

import os
import random
import shutil
import signal
import time

import pytest
import redis

from cluster import BASE_PORT, NODES, eventually

SEED = int(os.environ.get("QUIRE_SEED", random.randrange(1 << 32)))
OURS = NODES[:3]
CONFIG = """id = "{node}"
region = "us"
zone = "{node}"
client_addr = "127.0.0.1:{client}"
peer_addr = "127.0.0.1:{peer}"
http_addr = "127.0.0.1:{http}"
data_dir = "data"
[limits]
cache_bytes = 1048576
block_cache_bytes = 262144
memtable_bytes = 262144
scrub_bytes_per_second = 1073741824
[cluster]
name = "damage"
control_voters = {voters}
"""
PEER = '[[cluster.peers]]\nid = "{node}"\nregion = "us"\npeer_addr = "127.0.0.1:{peer}"\n'
KEYS = 6000
HEALED_S = 90


def value(n):
    return f"{n}:".ljust(300, "abcdefghij"[n % 10])


class Three:
    """The nodes `us-1` to `us-3`, all of them voters, and a keyspace on all of them."""

    def __init__(self, cluster, nodes=OURS, place="us=3", ack=("semi-sync:1",)):
        self.cluster, self.nodes = cluster, nodes
        peers = [{"node": node, "peer": cluster.port(node) + 20} for node in nodes]
        voters = "[" + ", ".join(f'"{node}"' for node in nodes) + "]"
        for node in nodes:
            (cluster.dir / node).mkdir(parents=True)
            port = cluster.port(node)
            text = CONFIG.format(node=node, client=port, peer=port + 20, http=port + 40, voters=voters)
            text += "".join(PEER.format(**peer) for peer in peers)
            (cluster.dir / node / "node.toml").write_text(text)
            cluster.server(node)
        for node in nodes:
            eventually(cluster.redis(node).ping, 30, f"{node} answers")
        create = lambda: [cluster.create("kept", "PLACE", place, "ACK", *ack)]
        [self.db] = eventually(create, 30, "the keyspace")
        self.written = 0
        self.write(KEYS)

    def write(self, keys):
        client = self.redis(self.nodes[0])
        for first in range(self.written, self.written + keys, 500):
            eventually(
                lambda: client.mset({f"key:{n}": value(n) for n in range(first, first + 500)}),
                30,
                "writes go on",
            )
        self.written += keys

    def redis(self, node):
        return self.cluster.redis(node, db=self.db)

    def data(self, node):
        return self.cluster.dir / node / "data"

    def primary(self):
        for node in self.nodes:
            try:
                return self.cluster.shards("kept", node=node)[0]["primary"]
            except (AssertionError, OSError):
                continue
        raise AssertionError("no node knows")

    def stop(self, node):
        """As an operator does, so that nothing at the log's end may be taken for torn."""
        [process] = [p for p in self.cluster.by_hand if p.pid == self.cluster.pid(node)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        eventually(lambda: self.cluster.is_free(node), 30, f"the ports of {node} are free")

    def said(self, node):
        return (self.cluster.dir / node / "log").read_text(errors="replace")

    def whole(self, what):
        """Every node has every key, and all copies are the same."""

        def check():
            for node in self.nodes:
                info = self.redis(node).info("persistence")
                assert info["damaged_shards"] == 0 and info["damaged_log_segments"] == 0, node
            for node in self.nodes:
                shards = self.cluster.shards("kept", node=node)
                replicas = [r for shard in shards for r in shard["replicas"]]
                assert all(r["caught_up"] for r in replicas), replicas
            assert self.cluster.equal("kept")
            for node in self.nodes:
                client = self.redis(node)
                for first in range(0, self.written, 500):
                    names = [f"key:{n}" for n in range(first, first + 500)]
                    assert client.mget(names) == [value(n) for n in range(first, first + 500)], node
                client.close()
            return True

        eventually(check, HEALED_S, what, every_s=0.5)


def pieces(data):
    """The kinds of file of a data directory, each with those that there are."""
    [store] = [d for d in (data / "store").iterdir() if d.name.isdigit()]
    [tree] = store.glob("g*")
    tables = sorted((tree / "tables").iterdir())
    assert tables, "what was written is not in files"
    return {
        "identity": [data / "identity"],
        "a file of the log": sorted((data / "log").glob("*.log")),
        "the log's extent": [data / "log/extent"],
        "the log": [data / "log"],
        "the list of stores": [data / "store.held"],
        "all stores": [data / "store"],
        "a store": [store],
        "a store's CURRENT": [store / "CURRENT"],
        "a store's tree": [tree],
        "a tree's current": [tree / "current"],
        "a tree's version": sorted(tree.glob("v*")),
        "a table": tables,
    }


def settled_tables(data):
    """The tables, once no compaction replaces them any more."""

    def check():
        before = pieces(data)["a table"]
        time.sleep(2)
        return before if before == pieces(data)["a table"] else None

    return eventually(check, 60, "compactions end")


def spoil(path, dice):
    """Damages a file, or removes a directory; says what it did."""
    how = dice.choice(["flip", "zero", "cut", "delete"])
    if path.is_dir():
        shutil.rmtree(path)
        return f"{path} removed"
    if how == "delete":
        path.unlink()
        return f"{path} removed"
    content = bytearray(path.read_bytes())
    # Not in the zeros at the end of a log's file: that is no damage.
    at = dice.randrange(max(len(content.rstrip(b"\0")), 1))
    if how == "flip":
        content[at] ^= 1 << dice.randrange(8)
    elif how == "zero":
        end = min(at + dice.choice([1, 64, 4096]), len(content))
        content[at:end] = bytes(end - at)
    else:
        del content[at:]
    path.write_bytes(content)
    return f"{path} {how} at {at}"


def clear(data):
    """What an operator does once everything is whole."""
    for kept in [*data.glob("set-aside-*"), *data.glob("store/*.damaged-*")]:
        shutil.rmtree(kept)


@pytest.mark.parametrize("of", ["primary", "replica"])
def test_any_damaged_file_is_repaired_from_the_others(unstarted, of):
    print("QUIRE_SEED:", SEED)
    dice = random.Random(f"{SEED} {of}")
    three = Three(unstarted)
    kinds = list(pieces(three.data(OURS[0])))
    dice.shuffle(kinds)
    for kind in kinds:
        primary = eventually(three.primary, 30, "a primary")
        others = [node for node in OURS if node != primary]
        victim = primary if of == "primary" else dice.choice(others)
        three.stop(victim)
        did = f"{kind} of the {of} {victim}: " + spoil(dice.choice(pieces(three.data(victim))[kind]), dice)
        print(did)
        process = unstarted.server(victim)
        three.whole(did)
        assert process.poll() is None, did
        clear(three.data(victim))
        three.write(500)


def test_damage_under_a_running_primary_is_found_by_a_scrub_and_handed_over(unstarted):
    print("QUIRE_SEED:", SEED)
    dice = random.Random(f"{SEED} scrub")
    three = Three(unstarted)
    victim = three.primary()
    client = three.redis(victim)
    assert client.info("persistence")["scrub_in_progress"] == 0
    with open(dice.choice(settled_tables(three.data(victim))), "r+b") as table:
        at = dice.randrange(table.seek(0, os.SEEK_END))
        table.seek(at)
        byte = table.read(1)[0]
        table.seek(at)
        table.write(bytes([byte ^ 1 << dice.randrange(8)]))
    print(unstarted.quire("scrub", node=victim))
    eventually(lambda: three.primary() != victim, 30, "another is primary")
    three.whole("it is filled anew")
    assert "scrub_last_time" in client.info("persistence")
    assert list(three.data(victim).glob("store/*.damaged-1"))
    three.write(500)
    # And what is not damaged is left alone.
    unstarted.quire("scrub", node=victim)
    eventually(lambda: client.info("persistence")["scrub_in_progress"] == 0, 30, "it ends")
    three.whole("nothing happened")


def test_a_damaged_part_of_the_log_is_given_up_while_the_node_runs(unstarted):
    three = Three(unstarted)
    victim = three.primary()
    [segment] = sorted(three.data(victim).glob("log/*.log"))
    with open(segment, "r+b") as log:
        log.seek(100_000)
        log.write(b"decayed")
    client = three.redis(victim)
    unstarted.quire("scrub", node=victim)
    eventually(lambda: "the log is damaged" in three.said(victim), 30, "it is found")
    eventually(lambda: "the damaged part of the log is gone" in three.said(victim), 60, "it goes")
    eventually(lambda: not segment.exists(), 30, "its file goes")
    assert client.info("persistence")["damaged_log_segments"] == 0
    three.whole("nothing else happened")
    three.stop(victim)
    unstarted.server(victim)
    three.whole("it starts")


def test_damage_that_only_reads_meet_heals_too(unstarted):
    """All blocks of a table, found by whoever reads; nobody is ever given something wrong."""
    three = Three(unstarted)
    victim = three.primary()
    three.stop(victim)
    for table in pieces(three.data(victim))["a table"]:
        content = bytearray(table.read_bytes())
        # Not what is checked when it is opened, at its end.
        for at in range(0, len(content) * 3 // 4, 1024):
            content[at] ^= 1
        table.write_bytes(content)
    unstarted.server(victim)
    client = three.redis(victim)
    until = time.monotonic() + HEALED_S
    healthy = 0
    while healthy < KEYS:
        n = healthy
        try:
            assert client.get(f"key:{n}") == value(n)
            healthy += 1
        except redis.RedisError:
            assert time.monotonic() < until, f"key:{n} can't be read for good"
            time.sleep(0.05)
    three.whole("it is filled anew")


def test_the_only_copy_is_not_taken_away(unstarted):
    three = Three(unstarted, place="us=1", ack=("async",))
    victim = three.primary()
    client = three.redis(victim)
    with open(settled_tables(three.data(victim))[0], "r+b") as table:
        table.seek(2000)
        table.write(b"decayed")
    unstarted.quire("scrub", node=victim)
    eventually(lambda: client.info("persistence")["damaged_shards"] == 1, 30, "it is found")
    eventually(lambda: "no other replica could take over" in three.said(victim), 10, "it is told")
    good = bad = 0
    for n in range(KEYS):
        try:
            assert client.get(f"key:{n}") == value(n)
            good += 1
        except redis.ResponseError as error:
            assert "checksum" in str(error).lower(), error
            bad += 1
    assert good > KEYS / 2 and client.set("new", 1), (good, bad)
    assert not list(three.data(victim).glob("store/*.damaged-*"))


def test_nobody_founds_an_empty_cluster_when_all_are_damaged(unstarted):
    three = Three(unstarted)
    identities = {}
    for node in OURS:
        three.stop(node)
        identity = three.data(node) / "identity"
        identities[node] = identity.read_bytes()
        identity.write_bytes(bytes(40))
    for node in OURS:
        unstarted.server(node)
    for node in OURS:
        eventually(lambda: "what it holds is set aside" in three.said(node), 20, node)
    for node in OURS:
        with pytest.raises(redis.RedisError):
            unstarted.redis(node).execute_command("KEYSPACE", "CREATE", "other", "PLACE", "us=3")
        assert unstarted.status(node)["keyspaces"] == []
    # Nothing is lost: what was set aside is put back, by a person who has the identities.
    for node in OURS:
        unstarted.kill(node)
        data, back = three.data(node), three.data(node).with_name("back")
        [aside] = data.glob("set-aside-*")
        aside.rename(back)
        shutil.rmtree(data)
        back.rename(data)
        (data / "identity").write_bytes(identities[node])
    for node in OURS:
        unstarted.server(node)
    three.whole("it is as it was")
    three.write(500)


def test_a_node_that_nobody_could_replace_is_refused_with_what_to_do(unstarted):
    three = Three(unstarted, nodes=OURS[:1], place="us=1", ack=("async",))
    [node] = three.nodes
    data = three.data(node)
    kinds = ["identity", "a file of the log", "the log"]
    dice = random.Random(f"{SEED} refused")
    print("QUIRE_SEED:", SEED)
    three.stop(node)
    kept = data.with_name("kept")
    shutil.copytree(data, kept)
    for kind in kinds:
        did = spoil(dice.choice(pieces(data)[kind]), random.Random(3))
        process = unstarted.server(node)
        assert process.wait(20) != 0, did
        last = three.said(node).strip().splitlines()[-1]
        assert "move it away" in last and "set aside by itself" in last, (did, last)
        assert not list(data.glob("set-aside-*")) and (data / "store").is_dir()
        shutil.rmtree(data)
        shutil.copytree(kept, data)
    unstarted.server(node)
    three.whole("it was put back")
