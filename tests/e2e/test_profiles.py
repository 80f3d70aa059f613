"""Real profiles, loaded and then updated, are the same on every node."""

import json

import pytest

from cluster import NODES, ROOT, eventually

PROFILES = ROOT / "testdata/profiles.jsonl"
UPDATES = ROOT / "testdata/updates.jsonl"


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def text(value):
    return str(value) if not isinstance(value, bool) else str(value).lower()


@pytest.fixture(scope="module")
def expected():
    """Each profile as it is after all updates, by key."""
    hashes = {}
    for line in lines(PROFILES):
        hashes[f"profile:{line['id']}"] = {f: text(v) for f, v in line["fields"].items()}
    for line in lines(UPDATES):
        fields = hashes.setdefault(f"profile:{line['id']}", {})
        fields.update({f: text(v) for f, v in line["set"].items()})
        for field, by in line["incr"].items():
            fields[field] = str(int(fields.get(field, 0)) + by)
    return hashes


def test_profiles(shared, expected):
    shared.redis("us-1").flushdb()
    shared.quire("load", PROFILES, "--keyspace", "profiles", within_s=60)
    writer = shared.redis("us-1")
    for line in lines(UPDATES):
        key = f"profile:{line['id']}"
        writer.hset(key, mapping={f: text(v) for f, v in line["set"].items()})
        for field, by in line["incr"].items():
            writer.hincrby(key, field, by)
    assert len(expected) == 537
    for node in NODES:
        reader = shared.redis(node)

        def same():
            pipe = reader.pipeline(transaction=False)
            for key in expected:
                pipe.hgetall(key)
            found = dict(zip(expected, pipe.execute()))
            wrong = [key for key in expected if found[key] != expected[key]]
            assert not wrong, f"{len(wrong)} profiles differ, {wrong[0]}: {found[wrong[0]]}"
            return True

        eventually(same, 10, f"{node} has every profile as it should be")
    done = shared.run("verify", "--keyspace", "profiles", within_s=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal" in done.stdout
    code, report = shared.verify()
    assert code == 0 and report["equal"]
    assert not any(s["differences"] for s in report["shards"])
    assert {r["node"] for s in report["shards"] for r in s["replicas"]} == set(NODES)
    assert {r["keys"] for s in report["shards"] for r in s["replicas"]} == {537}


def test_load_says_which_line_is_bad(shared, tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"id": "x1", "fields": {"a": "1"}}\n{"id": \n{"id": "x2", "fields": {"a": "2"}}\n')
    done = shared.run("load", file, "--key", "bad:{id}")
    assert done.returncode == 1
    assert "2" in done.stderr + done.stdout
    client = shared.redis("us-1")
    # Another session than the load's: where the primary is elsewhere it may see it later.
    here = lambda: [client.hget(f"bad:x{n}", "a") for n in (1, 2)] == ["1", "2"]
    eventually(here, 10, "the lines that are not bad are here")
    client.delete("bad:x1", "bad:x2")
