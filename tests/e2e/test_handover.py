"""A node that is told to end hands over first: nobody who writes elsewhere notices."""

import json
import os
import signal
import time

import pytest

from cluster import eventually
from writers import Writers

US = ["us-1", "us-2", "us-3"]
ENDS_WITHIN_S = 20


def primary_of(cluster, keyspace):
    return cluster.shards(keyspace, "eu-1")[0]["primary"]


def end(cluster, node):
    os.kill(cluster.pid(node), signal.SIGTERM)
    eventually(lambda: cluster.pid(node) is None, ENDS_WITHIN_S, f"{node} has ended")


def whole(cluster, keyspace):
    replicas = cluster.shards(keyspace, "eu-1")[0]["replicas"]
    return all(r["caught_up"] and r["role"] != "learner" for r in replicas)


@pytest.mark.parametrize("rule", ["async", "quorum"])
def test_nodes_are_restarted_one_after_the_other_while_clients_write(cluster, rule):
    number = cluster.create("ledger", "ACK", rule, "PLACE", "us=3")
    with Writers(cluster, number, ["eu-1", "asia-1"], "w", pause_s=0.002) as writers:
        eventually(lambda: len(writers.accepted()) > 100, 20, "writes are taken")
        for node in US:
            eventually(lambda: whole(cluster, "ledger"), 60, "all copies are whole", every_s=0.2)
            end(cluster, node)
            eventually(lambda: primary_of(cluster, "ledger") != node, 10, f"{node} has handed over")
            cluster.server(node)
            eventually(lambda: cluster.pid(node), 5, f"{node} is there again")
        eventually(lambda: whole(cluster, "ledger"), 60, "all copies are whole", every_s=0.2)
        time.sleep(0.5)
    # On a busy machine one may have waited for too long, and was not taken.
    unknown = [w for w in writers.writes() if w.said == "unknown"]
    assert not unknown, f"{len(unknown)} of {len(writers.writes())} writes: {unknown[:3]}"
    refused = [w for w in writers.writes() if w.said == "refused"]
    assert len(refused) <= 3, refused
    missing, _ = writers.outcome("us-1")
    assert not missing, f"{len(missing)} accepted writes are gone: {missing[:3]}"
    events = json.loads(cluster.quire("events", "--json", node="eu-1"))["events"]
    kinds = [e["kind"] for e in events if "ledger" in e["text"]]
    assert "handover" in kinds and "failover" not in kinds, events
    code, report = cluster.verify("ledger", "eu-1")
    assert code == 0, report


def test_clients_of_the_node_that_ends_are_answered_first(cluster):
    """A pipeline is under way at the primary itself: each of its commands that was read is
    answered, with what is true, before the connection closes."""
    number = cluster.create("ledger", "ACK", "quorum", "PLACE", "us=3")
    primary = primary_of(cluster, "ledger")
    with Writers(cluster, number, [primary], "w", pause_s=0) as writers:
        eventually(lambda: len(writers.accepted()) > 200, 20, "writes are taken")
        end(cluster, primary)
    said = [w for w in writers.writes() if w.said == "unknown" and w.why.startswith("UNKNOWN")]
    assert not said, said[:3]
    cluster.server(primary)
    eventually(lambda: whole(cluster, "ledger"), 60, "all copies are whole", every_s=0.2)
    missing, _ = writers.outcome("us-1")
    assert not missing, missing[:3]
