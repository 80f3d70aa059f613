"""A keyspace whose replicas elect their primary: what is acknowledged is on a majority, reads miss
nothing, and nobody else is needed for it.

What must never happen is asserted without regard to time; limits of time are generous. More of it
with QUIRE_CONSENSUS_ROUNDS.
"""

import os
import shutil
import signal
import threading
import time

import pytest
import redis

from cluster import NODES, eventually
from writers import Writers

ROUNDS = int(os.environ.get("QUIRE_CONSENSUS_ROUNDS", "2"))
FIRST_WRITE_MAX_S = 15
BACK_MAX_S = 60
US = ["us-1", "us-2", "us-3"]


def primary_of(cluster, keyspace, node):
    return cluster.shards(keyspace, node)[0]["primary"]


def kept(cluster, keyspace, writers, node):
    """All copies are equal, and hold what was accepted and nothing that was refused."""

    def level():
        shard = cluster.shards(keyspace, node)[0]
        assert all(replica["caught_up"] for replica in shard["replicas"]), shard
        code, report = cluster.verify(keyspace, node)
        assert code == 0 and report["equal"] is True, report
        return True

    eventually(level, BACK_MAX_S, "the copies are equal", every_s=0.3)
    missing, wrong = writers.outcome(primary_of(cluster, keyspace, node))
    assert not missing and not wrong, (missing[:5], wrong[:5])


def test_it_serves_at_every_node_and_shows_who_leads(cluster):
    db = cluster.create("ledger", "TOPOLOGY", "consensus", "PLACE", "us=1,eu=1,asia=1", "SHARDS", 3)
    for n, node in enumerate(NODES):
        client = cluster.redis(node, db=db)
        assert client.incr("counter") == n + 1
        assert client.get("counter") == str(n + 1)
        assert client.set("once", "first", nx=True) == (True if n == 0 else None)
        pipe = client.pipeline(transaction=True)
        pipe.hset("h", node, n).hlen("h")
        assert pipe.execute() == [1, n + 1]
        pipe = client.pipeline(transaction=False)
        for _ in range(5):
            pipe.get("p").append("p", "x")
        lengths = [reply for reply in pipe.execute() if isinstance(reply, int)]
        assert lengths == list(range(5 * n + 1, 5 * n + 6))
    for node in NODES:
        for shard in cluster.shards("ledger", node):
            roles = {replica["node"]: replica["role"] for replica in shard["replicas"]}
            assert roles.pop(shard["primary"]) == "primary" and set(roles.values()) == {"replica"}
            assert shard["epoch"] > 0
    # It goes home: the preferred region is the first that was placed.
    eventually(lambda: {s["primary"][:2] for s in cluster.shards("ledger")} == {"us"}, 30, "home")
    assert cluster.equal("ledger")


def test_a_read_anywhere_sees_what_was_acknowledged_before(cluster):
    db = cluster.create("ledger", "TOPOLOGY", "consensus", "PLACE", "us=1,eu=1,asia=1")
    clients = [cluster.redis(node, db=db) for node in NODES]
    for n in range(21):
        clients[n % 7].set("k", n)
        reader = (n * 3 + 1) % 7
        assert clients[reader].get("k") == str(n), (n, NODES[reader])


def test_what_is_not_its_choice_is_refused_by_name(shared):
    client = shared.redis("us-1")
    for words, error in [
        ("ACK quorum", "ACK is not a choice of consensus"),
        ("ON_TIMEOUT degrade", "ON_TIMEOUT is not a choice of consensus"),
        ("FAILOVER safe", "FAILOVER is not a choice of consensus"),
        ("PRIMARY asia", "asia"),
    ]:
        with pytest.raises(redis.ResponseError, match=error):
            client.execute_command(
                "KEYSPACE", "CREATE", "x", "TOPOLOGY", "consensus", "PLACE", "us=3", *words.split())
    with pytest.raises(redis.ResponseError, match="use primary-replica or consensus"):
        client.execute_command("KEYSPACE", "CREATE", "x", "TOPOLOGY", "ring", "PLACE", "us=3")


def test_the_primary_is_killed_and_no_control_voter_is_left(cluster):
    """The control group is not needed: its voters are stopped before the primary is killed."""
    db = cluster.create("ledger", "TOPOLOGY", "consensus", "PLACE", "us=3,eu=2")
    voters = cluster.status()["control"]["voters"]
    holders = [replica["node"] for replica in cluster.shards("ledger")[0]["replicas"]]
    for number in range(ROUNDS):
        victim = primary_of(cluster, "ledger", "eu-2")
        left = [n for n in holders if n != victim]
        with Writers(cluster, "ledger", [victim, *left], f"round{number}") as writers:
            time.sleep(1)
            assert len(writers.accepted()) > 5, writers.writes()[-3:]
            cluster.kill(victim)
            killed = time.monotonic()
            eventually(lambda: writers.first_accepted(killed), FIRST_WRITE_MAX_S, "it goes on")
            took = writers.first_accepted(killed) - killed
            time.sleep(0.5)
        cluster.server(victim)
        kept(cluster, "ledger", writers, left[0])
        print(f"first write after {took:.2f} s, {len(writers.accepted())} accepted, none lost")

    # Of five copies two may be away. Most voters of the control group are gone with them.
    victim = primary_of(cluster, "ledger", "eu-2")
    others = [v for v in voters if v != victim]
    gone = [victim, others[0]]
    stopped = [v for v in voters if v not in gone and v not in holders]
    left = [n for n in holders if n not in gone]
    with Writers(cluster, "ledger", left, "two") as writers:
        time.sleep(1)
        for node in stopped:
            os.kill(cluster.pid(node), signal.SIGSTOP)
        cluster.kill(*gone)
        killed = time.monotonic()
        eventually(lambda: writers.first_accepted(killed), FIRST_WRITE_MAX_S, "it goes on")
        took = writers.first_accepted(killed) - killed
        time.sleep(1)
    assert cluster.redis(left[0], db=db).set("still", "there")
    for node in stopped:
        os.kill(cluster.pid(node), signal.SIGCONT)
    for node in gone:
        cluster.server(node)
    kept(cluster, "ledger", writers, left[0])
    print(f"two of five, {gone}, {stopped} stopped: first write after {took:.2f} s")


def test_a_primary_that_stood_still_shows_nothing_old(cluster):
    """SIGSTOP: the others elect, and go on; what comes back neither writes nor answers as before."""
    db = cluster.create("ledger", "TOPOLOGY", "consensus", "PLACE", "us=3")
    old = primary_of(cluster, "ledger", "eu-2")
    left = [n for n in US if n != old]
    pid = cluster.pid(old)
    held = cluster.redis(old, db=db, socket_timeout=30)
    held.set("k", 0)
    answers = []
    with Writers(cluster, "ledger", left, "w") as writers:
        time.sleep(0.5)
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        waits = threading.Thread(target=lambda: answers.append(held.get("k")))
        waits.start()
        eventually(lambda: writers.first_accepted(stopped), FIRST_WRITE_MAX_S, "it goes on")
        assert cluster.redis(left[0], db=db).set("k", 1)
        time.sleep(2)
        os.kill(pid, signal.SIGCONT)
        waits.join(30)
    assert answers == ["1"]
    kept(cluster, "ledger", writers, left[0])


def test_nodes_end_one_after_the_other_and_no_outcome_is_unknown(cluster):
    """SIGTERM: who leads hands over, and what is under way is answered all the same."""
    cluster.create("ledger", "TOPOLOGY", "consensus", "PLACE", "us=3")
    with Writers(cluster, "ledger", ["eu-1", "eu-2", "asia-1"], "w", pause_s=0.005) as writers:
        for node in US:
            time.sleep(1)
            pid = cluster.pid(node)
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: cluster.pid(node) is None, 15, f"{node} ends", every_s=0.2)
            cluster.server(node)
            eventually(
                lambda: all(r["caught_up"] for r in cluster.shards("ledger", "eu-1")[0]["replicas"]),
                BACK_MAX_S, f"{node} is back", every_s=0.2)
        time.sleep(1)
    kept(cluster, "ledger", writers, "eu-1")
    unknown = [w for w in writers.writes() if w.said == "unknown"]
    assert not unknown, unknown[:5]


def members_of(cluster, node):
    """Who holds the shard, by what the leader's own node says of them: node → role."""
    shard = cluster.shards("ledger", node)[0]
    return {replica["node"]: replica["role"] for replica in shard["replicas"]}


def test_disks_are_lost_one_after_the_other(cluster):
    """All three disks are new in the end, that of the primary too, and each of the first would have
    been the end of a group that still counts it."""
    db = cluster.create("ledger", "TOPOLOGY", "consensus", "PLACE", "us=3")
    with Writers(cluster, "ledger", ["eu-1", "eu-2", "asia-1"], "w", pause_s=0.005) as writers:
        first = primary_of(cluster, "ledger", "eu-1")
        for victim in [first, *(n for n in US if n != first)]:
            cluster.kill(victim)
            shutil.rmtree(cluster.dir / victim / "data")
            emptied = time.monotonic()
            cluster.server(victim)

            def is_member():
                """The catalog says so, and its copy is level."""
                told = cluster.quire("events", "--json", node="eu-1")
                [facts] = [r for r in cluster.shards("ledger", "eu-1")[0]["replicas"]
                           if r["node"] == victim]
                return f"{victim} holds all of shard" in told and facts["caught_up"]

            eventually(is_member, BACK_MAX_S, f"{victim} is a member on its new disk", every_s=0.3)
            print(f"{victim} votes on another disk after {time.monotonic() - emptied:.1f} s")
        time.sleep(1)
    kept(cluster, "ledger", writers, "eu-1")
    assert cluster.redis("eu-1", db=db).set("still", "there")


def test_a_member_that_is_gone_is_replaced_and_counts_no_more(cluster):
    """First the primary, then another: two of the first three are gone, and a majority is there."""
    db = cluster.create(
        "ledger", "TOPOLOGY", "consensus", "PLACE", "us=1,eu=1,asia=1", "REPLACE_AFTER", 3000)
    eventually(lambda: primary_of(cluster, "ledger", "us-1")[:2] == "us", 30, "the first is in us")
    first = members_of(cluster, "us-1")
    spare = {"us": US, "eu": ["eu-1", "eu-2"], "asia": ["asia-1", "asia-2"]}
    gone = []
    asked = next(n for n in NODES if n not in first)
    with Writers(cluster, "ledger", [n for n in NODES if n not in first][:2], "w") as writers:
        for region in ("us", "eu"):
            [victim] = [n for n in first if n.startswith(region)]
            cluster.kill(victim)
            gone.append(victim)
            killed = time.monotonic()

            def is_replaced():
                roles = members_of(cluster, asked)
                others = [n for n in roles if n in spare[region] and n not in gone]
                return len(roles) == 3 and victim not in roles and others

            eventually(is_replaced, BACK_MAX_S, f"{victim} is replaced", every_s=0.3)
            print(f"{victim} is replaced after {time.monotonic() - killed:.1f} s")
        time.sleep(1)
    assert cluster.redis(asked, db=db).set("still", "there")
    kept(cluster, "ledger", writers, asked)
    # Who comes back holds nothing any more, and disturbs nobody.
    before = primary_of(cluster, "ledger", asked)
    for victim in gone:
        cluster.server(victim)
    time.sleep(5)
    assert primary_of(cluster, "ledger", asked) == before
    assert cluster.redis(gone[0], db=db).get("still") == "there"
