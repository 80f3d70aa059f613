"""An upgrade, node by node and under load: forward, back before the feature level is raised, forward
again, raised; then the old release is refused by name. The next release is this one's binary that
pretends to be it (QUIRE_TEST_RELEASE, docs/adr/0017-versions)."""

import itertools
import json
import os
import signal

import pytest

from cluster import eventually
from trio import NODES, Trio
from writers import Writers

THIS, NEXT = {}, {"QUIRE_TEST_RELEASE": "next"}
# The newest feature level that each knows.
OLD, NEW = 1, 2


@pytest.fixture
def trio(tmp_path):
    trio = Trio(tmp_path)
    yield trio.start()
    trio.stop()


def asked(trio, node, what):
    client = trio.redis(node)
    try:
        return json.loads(client.execute_command("QUIRE", what))
    finally:
        client.close()


def level(trio, node):
    return asked(trio, node, "LEVEL")


def status(trio, node):
    return asked(trio, node, "STATUS")


def is_whole(trio):
    replicas = status(trio, "us-1")["keyspaces"][0]["shards"][0]["replicas"]
    return len(replicas) == 3 and all(r["caught_up"] and r["role"] != "learner" for r in replicas)


def end(trio, node, how):
    process = trio.processes[node]
    os.kill(process.pid, how)
    process.wait(30)


def change(trio, node, release, how):
    """Another release takes a node's place, once all copies are whole."""
    eventually(lambda: is_whole(trio), 60, "all copies are whole", every_s=0.2)
    end(trio, node, how)
    trio.server(node, **release)
    newest = NEW if release else OLD

    def is_there():
        known = {n["id"]: n["newest"] for n in level(trio, node)["nodes"]}
        up = [n["id"] for n in status(trio, node)["nodes"] if n["state"] == "up"]
        return known.get(node) == newest and node in up

    eventually(is_there, 60, f"{node} is there with level {newest}", every_s=0.2)


def nothing_is_new(trio):
    for node in NODES:
        facts = level(trio, node)
        assert (facts["level"], facts["unknown_messages"]) == (OLD, 0), (node, facts)
        assert facts["rehearsal"] == {"messages": 0, "records": 0, "commands": 0}, (node, facts)


def is_refused(trio, node, *words):
    """The old release ends by itself, and says what to start."""
    before = len(trio.log(node))
    trio.server(node, **THIS)
    assert trio.processes[node].wait(60) != 0
    said = trio.log(node)[before:]
    for word in (*words, f"start the node with a release that knows level {NEW}"):
        assert word in said, (word, said)


def test_a_cluster_is_upgraded_and_back_and_nothing_is_lost(trio):
    trio.create("PLACE us=3 ACK quorum")
    order = trio.redis("us-1").execute_command
    assert order("QUIRE", "LEVEL", "HOLD") == "OK"
    ends = itertools.cycle([signal.SIGTERM, signal.SIGKILL])
    with Writers(trio, 0, ["us-1", "us-2", "us-3"], "w", pause_s=0.005) as writers:
        eventually(lambda: len(writers.accepted()) > 100, 20, "writes are taken")
        for node in NODES:
            change(trio, node, NEXT, next(ends))
            nothing_is_new(trio)
        for node in ["us-2", "us-1"]:
            change(trio, node, THIS, next(ends))
            nothing_is_new(trio)
        refused = pytest.raises(Exception, trio.redis("us-3").execute_command, "QUIRE", "LEVEL", "2")
        assert "us-1 knows 1 alone, us-2 knows 1 alone; upgrade every node first" in str(refused.value)
        for node in ["us-1", "us-2"]:
            change(trio, node, NEXT, next(ends))
        nothing_is_new(trio)
        assert trio.redis("us-2").execute_command("QUIRE", "LEVEL", "AUTO") == "OK"

        def is_new(node):
            facts = level(trio, node)
            new = facts["rehearsal"]
            assert (facts["level"], facts["unknown_messages"]) == (NEW, 0), facts
            return new["messages"] > 0 and new["records"] > 0 and new["commands"] == len(NODES)

        for node in NODES:
            eventually(lambda: is_new(node), 60, f"{node} does what is new")
        # The mark and the records of the new level are read back.
        change(trio, "us-3", NEXT, signal.SIGKILL)
        end(trio, "us-3", signal.SIGTERM)
        is_refused(trio, "us-3", f"this disk was used at feature level {NEW}", "knows 1 alone")
        data = trio.data("us-3")
        data.rename(data.with_name("as-it-was"))
        is_refused(trio, "us-3", f"the cluster is at feature level {NEW}", "knows 1 alone")
        data.rename(data.with_name("of-the-old-release"))
        data.with_name("as-it-was").rename(data)
        trio.server("us-3", **NEXT)
        eventually(lambda: is_whole(trio), 60, "all copies are whole", every_s=0.2)
        accepted = len(writers.accepted())
        eventually(lambda: len(writers.accepted()) > accepted + 100, 20, "writes are taken")
    for node in NODES:
        missing, wrong = writers.outcome(node)
        assert not missing and not wrong, (node, missing[:3], wrong[:3])
    verdict = json.loads(trio.quire("verify", "--keyspace", "main", "--json"))
    assert verdict["equal"] is True, verdict
    kinds = [e["kind"] for e in json.loads(trio.quire("events", "--json"))["events"]]
    assert "level" in kinds
