"""The primary is lost, in every way that there is, and another takes over.

What must never happen is asserted without regard to time; limits of time are generous, for a
machine that does other work. More of it with QUIRE_FAILOVER_ROUNDS, QUIRE_FAILOVER_PAUSE_S (of
a primary that is stopped) and QUIRE_FAILOVER_TAIL (entries that are taken back).
"""

import json
import os
import signal
import time

import pytest
import redis

from cluster import NODES, eventually
from writers import Writers

ROUNDS = int(os.environ.get("QUIRE_FAILOVER_ROUNDS", "1"))
PAUSE_S = float(os.environ.get("QUIRE_FAILOVER_PAUSE_S", "5"))
TAIL = int(os.environ.get("QUIRE_FAILOVER_TAIL", "20000"))

FIRST_WRITE_MAX_S = 15
BACK_MAX_S = 60

US = ["us-1", "us-2", "us-3"]
RULES = [
    ("async", "us=3,eu=2,asia=2"),
    ("semi-sync:1", "us=3,eu=1"),
    ("quorum", "us=3,eu=2,asia=2"),
    ("sync", "us=2,eu=1"),
]


def primary_of(cluster, keyspace, node):
    return cluster.shards(keyspace, node)[0]["primary"]


def level(cluster, keyspace, node, within_s=BACK_MAX_S):
    """Waits until all copies are full members with the same data."""

    def check():
        shard = cluster.shards(keyspace, node)[0]
        for replica in shard["replicas"]:
            assert replica["caught_up"] and replica["role"] in ("primary", "replica"), shard
        code, report = cluster.verify(keyspace, node)
        assert code == 0 and report["equal"] is True, report
        return True

    eventually(check, within_s, f"the copies of {keyspace} are equal", every_s=0.3)


def rewound_keys(cluster, shard):
    """The keys that lost entries of this shard wrote, by the files of all nodes."""
    keys = set()
    for node in NODES:
        listed = json.loads(cluster.quire("rewound", "list", "--json", node=node))
        for file in listed["files"]:
            if file["shard"] != shard or not file["complete"]:
                continue
            for line in cluster.quire("rewound", "show", file["file"], node=node).splitlines():
                entry = json.loads(line)
                if "position" in entry:
                    keys |= {e["key"] for e in entry["effects"] if e["op"] == "set"}
    return keys


def kept(cluster, keyspace, rule, writers, node):
    """What was accepted is there, but for what `async` lost and saved; what was refused is not."""
    level(cluster, keyspace, node)
    missing, wrong = writers.outcome(primary_of(cluster, keyspace, node))
    assert not wrong, f"refused, and there: {wrong[:5]}"
    if rule == "async":
        saved = rewound_keys(cluster, cluster.shards(keyspace, node)[0]["id"])
        unsaved = [w for w in missing if w.key not in saved]
        assert not unsaved, f"lost and not saved: {unsaved[:5]} of {len(unsaved)}"
    else:
        assert not missing, f"lost under {rule}: {missing[:5]} of {len(missing)}"
    return missing


@pytest.mark.parametrize("rule,place", RULES)
def test_the_primary_is_killed(cluster, rule, place):
    cluster.create("k", "ACK", rule, "PLACE", place)
    for number in range(ROUNDS):
        victim = primary_of(cluster, "k", "eu-2")
        others = [n for n in NODES if n != victim]
        id = cluster.shards("k", "eu-2")[0]["id"]
        places = [victim, others[0], others[1], "eu-1", "asia-1"]
        with Writers(cluster, "k", places, f"round{number}") as writers:
            time.sleep(1)
            assert len(writers.accepted()) > 5, writers.writes()[-3:]
            cluster.kill(victim)
            killed = time.monotonic()
            if rule == "sync":
                # Every replica: there is another primary, and it waits for the one that is gone.
                eventually(
                    lambda: primary_of(cluster, "k", others[0]) != victim, FIRST_WRITE_MAX_S, "named"
                )
                assert writers.first_accepted(killed) is None
                cluster.server(victim)
            eventually(lambda: writers.first_accepted(killed), FIRST_WRITE_MAX_S, "a write is accepted")
            took = writers.first_accepted(killed) - killed
            time.sleep(1)
        node = primary_of(cluster, "k", others[0])
        assert node != victim
        before, wrong = writers.outcome(node)
        assert not wrong, f"refused, and there: {wrong[:5]}"
        assert rule == "async" or not before, f"lost under {rule}: {before[:5]}"
        if rule != "sync":
            cluster.server(victim)
        missing = kept(cluster, "k", rule, writers, others[0])
        print(f"{rule}: first write after {took:.2f} s, {len(missing)} of "
              f"{len(writers.accepted())} accepted lost and saved, shard {id}")


def test_reads_go_on_meanwhile(cluster):
    """Every copy that is left answers what it answered before, until another primary is there."""
    db = cluster.create("k", "ACK", "quorum", "PLACE", "us=3,eu=2,asia=2")
    victim = primary_of(cluster, "k", "eu-2")
    left = [n for n in NODES if n != victim]
    cluster.redis(victim, db=db).set("k", 1)
    clients = {n: cluster.redis(n, db=db) for n in left}
    for n, client in clients.items():
        eventually(lambda: client.get("k") == "1", 10, f"{n} has it")
    refused = []

    def read_everywhere():
        for n, client in clients.items():
            try:
                assert client.get("k") == "1", n
            except redis.RedisError as error:
                refused.append((round(time.monotonic() - killed, 2), n, str(error)))

    with Writers(cluster, "k", left[:2], "w") as writers:
        time.sleep(0.5)
        cluster.kill(victim)
        killed = time.monotonic()
        while time.monotonic() < killed + 30 and not writers.first_accepted(killed):
            read_everywhere()
        assert writers.first_accepted(killed)
        read_everywhere()
    assert not refused, f"{len(refused)} reads refused: {refused[0]} to {refused[-1]}"
    cluster.server(victim)
    kept(cluster, "k", "quorum", writers, left[0])


def test_the_control_leader_dies_with_the_primary(cluster):
    cluster.create("k", "ACK", "quorum", "PLACE", "us=3,eu=2,asia=2")
    for number in range(ROUNDS):
        leader = cluster.status("asia-2")["control"]["leader"]
        victims = {primary_of(cluster, "k", "asia-2"), leader}
        left = [n for n in NODES if n not in victims]
        with Writers(cluster, "k", left, f"round{number}") as writers:
            time.sleep(1)
            cluster.kill(*victims)
            killed = time.monotonic()
            eventually(lambda: writers.first_accepted(killed), 30, "a write is accepted")
            took = writers.first_accepted(killed) - killed
            time.sleep(1)
        assert primary_of(cluster, "k", "asia-2") not in victims
        assert cluster.status("asia-2")["control"]["leader"] not in victims
        for node in victims:
            cluster.server(node)
        kept(cluster, "k", "quorum", writers, left[0])
        print(f"{victims}: first write after {took:.2f} s")


@pytest.mark.parametrize("rule,place", RULES)
def test_the_primary_s_region_is_cut_off(cluster, rule, place):
    """At no moment do both sides accept writes."""
    cluster.create("k", "ACK", rule, "PLACE", place)
    home = primary_of(cluster, "k", "eu-1")
    assert home in US
    # Under `semi-sync:1` nobody outside is of the acknowledging set; under `sync` one heard is
    # enough, and then waits for all.
    goes_on = rule in ("async", "quorum")
    with (
        Writers(cluster, "k", [home, "us-1", "us-3"], "inside") as inside,
        Writers(cluster, "k", ["eu-1", "eu-2", "asia-1"], "outside") as outside,
    ):
        time.sleep(1.5)
        assert inside.accepted() and outside.accepted()
        for far in ("eu", "asia"):
            cluster.quire("wan", "cut", "us", far, node="us-2")
            cluster.quire("wan", "cut", far, "us", node="us-2")
        cut = time.monotonic()
        if goes_on:
            eventually(lambda: outside.first_accepted(cut), 30, "a write is accepted outside")
            time.sleep(2)
        else:
            time.sleep(8)
            assert outside.first_accepted(cut) is None
        healed = time.monotonic()
        for far in ("eu", "asia"):
            cluster.quire("wan", "heal", "us", far, node="us-2")
            cluster.quire("wan", "heal", far, "us", node="us-2")
        for side in (inside, outside):
            eventually(lambda: side.first_accepted(healed), 30, "both go on, at the same primary")
        time.sleep(1)
    first = outside.first_accepted(cut)
    both = [w for w in inside.accepted() if first < w.sent and w.got < healed]
    assert not both, f"accepted on both sides: outside at {first}, inside {both[:5]}"
    last = max((w.got for w in inside.accepted() if w.got < healed), default=cut)
    missing = kept(cluster, "k", rule, inside, "eu-2")
    missing += kept(cluster, "k", rule, outside, "eu-2")
    print(f"{rule}: last write inside {last - cut:.2f} s after the cut, first outside "
          f"{first - cut:.2f} s, {len(missing)} lost and saved")


@pytest.mark.parametrize("rule,place", [RULES[0], RULES[1], RULES[2]])
def test_the_primary_is_stopped_and_goes_on(cluster, rule, place):
    """What it had in hand when it was stopped is not accepted when it wakes, after its time."""
    cluster.create("k", "ACK", rule, "PLACE", place)
    victim = primary_of(cluster, "k", "eu-1")
    others = [n for n in NODES if n != victim]
    pid = cluster.pid(victim)
    options = {"timeout_s": PAUSE_S + 20}
    # Their requests lie at the stopped node all the while.
    with (
        Writers(cluster, "k", [victim] * 8, "there", **options) as there,
        Writers(cluster, "k", others[:4], "elsewhere") as elsewhere,
    ):
        time.sleep(1)
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            eventually(lambda: elsewhere.first_accepted(stopped), FIRST_WRITE_MAX_S, "a write")
            took = elsewhere.first_accepted(stopped) - stopped
            time.sleep(max(0, stopped + PAUSE_S - time.monotonic()))
        finally:
            woke = time.monotonic()
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: there.first_accepted(woke), 30, "the node takes writes for the other")
        time.sleep(1)
    late = [w for w in there.writes() if w.sent < woke < w.got]
    assert len(late) == 8, late
    missing = kept(cluster, "k", rule, there, others[0])
    missing += kept(cluster, "k", rule, elsewhere, others[0])
    # Accepted after the other was named: by the other, so not even async may have lost it.
    first = elsewhere.first_accepted(stopped)
    lost = [w for w in missing if w.sent > first or w.got > woke]
    assert not lost, f"the old primary accepted what it no longer could: {lost[:5]}"
    print(f"{rule}: first write after {took:.2f} s, {len(missing)} lost and saved, at the node "
          f"that woke: {[w.said + ' ' + w.why[:20] for w in late]}")


def info(client):
    return client.info("replication")


def test_a_long_tail_is_taken_back_without_a_copy(cluster):
    """The link from the primary to its replica is cut, and it still renews its lease, because
    that replica is no voter of the control group."""
    voters = cluster.status()["control"]["voters"]
    for number in range(4):
        keyspace = f"tail-{number}"
        db = cluster.create(keyspace, "ACK", "async", "PLACE", "us=2")
        roles = {r["node"]: r["role"] for r in cluster.shards(keyspace)[0]["replicas"]}
        replica = next(n for n, role in roles.items() if role != "primary")
        if replica not in voters:
            break
    assert replica not in voters
    victim = next(n for n in roles if n != replica)
    client = cluster.redis(victim, db=db)
    client.set("before", 1)
    eventually(lambda: cluster.redis(replica, db=db).get("before") == "1", 10, "there")
    cluster.quire("wan", "cut", victim, replica, node=victim)
    for at in range(0, TAIL, 1000):
        pipe = client.pipeline(transaction=False)
        for n in range(at, min(at + 1000, TAIL)):
            pipe.set(f"tail:{n}", n)
        pipe.execute()
    cluster.kill(victim)
    cluster.quire("wan", "heal", victim, replica, node=replica)
    other = cluster.redis(replica, db=db)
    eventually(lambda: other.set("after", 1), FIRST_WRITE_MAX_S, "a write is accepted")
    assert other.get("tail:0") is None and other.get("before") == "1"
    log = cluster.dir / victim / "log"
    told = len(log.read_text(errors="replace"))
    began = time.monotonic()
    cluster.server(victim)
    again = cluster.redis(victim, db=db)
    eventually(lambda: info(again)["rewinds"] == 1, BACK_MAX_S, "the tail is taken back")
    level(cluster, keyspace, replica)
    took = time.monotonic() - began
    seen = info(again)
    assert TAIL <= seen["rewound_entries"] <= TAIL + 10, seen
    said = log.read_text(errors="replace")[told:]
    assert "is filled" not in said, said[-2000:]
    assert again.get("after") == "1" and again.get("tail:0") is None
    saved = rewound_keys(cluster, cluster.shards(keyspace, replica)[0]["id"])
    assert {f"tail:{n}" for n in range(TAIL)} <= saved
    print(f"{TAIL} entries: back and equal {took:.1f} s after the start")
