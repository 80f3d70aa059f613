"""Frameworks and client libraries that other people wrote for Redis, as their users run them: each
is a program of its own under `programs`, which ends with `passed` if what it asked was answered.
What one of them must be told is in docs/clients.md."""

import os
import pathlib
import subprocess
import sys

import pytest
import redis
from glide_sync import (
    ClosingError,
    GlideClient,
    GlideClientConfiguration,
    GlideClusterClient,
    GlideClusterClientConfiguration,
    NodeAddress,
    ProtocolVersion,
    ReadFrom,
)

from cluster import EVERYWHERE, NODES, eventually

PROGRAMS = pathlib.Path(__file__).parent / "programs"
NEAR, FAR = "us-1", "eu-1"  # a node in the region of every primary here, and one across the ocean
DJANGO = ("django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache")
KEYS, FIELDS = 1000, 3000


@pytest.fixture(scope="module")
def keyspaces(session_cluster):
    """Keyspaces of one and of four shards, by their number of shards."""
    return {n: session_cluster.create(f"programs-{n}", *EVERYWHERE, "SHARDS", n) for n in (1, 4)}


def url(cluster, node, db):
    return f"redis://127.0.0.1:{cluster.port(node)}/{db}"


def run(name, *args):
    if name.endswith(".mjs"):
        there = (PROGRAMS / "node_modules").is_dir()
        assert there, "npm ci --prefix tests/e2e/programs (with the npm that requirements.txt brings)"
        # The one beside this Python, if there is one.
        paths = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = ["node", PROGRAMS / name, *args]
    else:
        paths, command = os.environ["PATH"], [sys.executable, "-B", "-W", "ignore", PROGRAMS / name, *args]
    done = subprocess.run(command, env=os.environ | {"PATH": paths}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.endswith("passed\n"), done.stdout[-2000:] + done.stderr[-6000:]


@pytest.mark.parametrize("node", [NEAR, FAR])
@pytest.mark.parametrize("backend", DJANGO, ids=["django", "django-redis"])
def test_django_keeps_its_cache_and_its_sessions(shared, keyspaces, backend, node):
    run("django_app.py", backend, url(shared, node, keyspaces[1]))


@pytest.mark.parametrize("node", [NEAR, FAR])
def test_flask_keeps_its_cache(shared, keyspaces, node):
    run("flask_app.py", url(shared, node, keyspaces[1]))


@pytest.mark.parametrize("node", [NEAR, FAR])
def test_fastapi_keeps_its_cache(shared, keyspaces, node):
    run("fastapi_app.py", url(shared, node, keyspaces[1]))


@pytest.mark.parametrize(("node", "shards"), [(NEAR, 1), (FAR, 4)])
def test_express_keeps_its_sessions(shared, keyspaces, node, shards):
    run("express_app.mjs", url(shared, node, keyspaces[shards]))


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("program", ["node_redis.mjs", "ioredis.mjs"])
def test_a_library_of_node_reads_all_at_every_node(shared, keyspaces, program, shards):
    run(program, *(url(shared, node, keyspaces[shards]) for node in NODES))


@pytest.mark.parametrize("shards", [1, 4])
def test_redis_py_reads_all_at_every_node(shared, keyspaces, shards):
    clients = [redis.Redis.from_url(url(shared, node, keyspaces[shards]), decode_responses=True) for node in NODES]
    try:
        clients[0].flushdb()
        keys, fields = {f"key:{n}" for n in range(KEYS)}, {f"field:{n}": str(n) for n in range(FIELDS)}
        clients[0].mset({key: "v" for key in keys})
        clients[0].hset("hash", mapping=fields)
        for n, client in enumerate(clients):
            # What others wrote, once it is here; what it writes itself, at once.
            eventually(lambda: client.hlen("hash") == FIELDS and client.dbsize() == KEYS + 1 + n, 20, "all is here")
            assert sorted(client.scan_iter(match="key:*", count=70)) == sorted(keys)
            found = list(client.hscan_iter("hash", count=100))
            assert len(found) == FIELDS and dict(found) == fields
            assert client.set(f"own:{n}", 1, ex=100) and client.incr(f"own:{n}") == 2
            assert client.get(f"own:{n}") == "2"
    finally:
        for client in clients:
            client.close()


def test_redis_py_is_told_that_this_is_no_redis_cluster(shared):
    with pytest.raises(redis.RedisClusterException, match="Cluster mode is not enabled on this node"):
        redis.RedisCluster.from_url(f"redis://127.0.0.1:{shared.port(NEAR)}")


def scanned(scan):
    cursor, found = b"0", []
    while True:
        cursor, page = scan(cursor)
        found += page
        if cursor == b"0":
            return found


@pytest.mark.parametrize("protocol", [ProtocolVersion.RESP2, ProtocolVersion.RESP3], ids=["RESP2", "RESP3"])
@pytest.mark.parametrize("read_from", [ReadFrom.PRIMARY, ReadFrom.PREFER_REPLICA], ids=["primary", "replicas"])
def test_glide_finds_the_primary_of_a_keyspace_among_all_nodes(shared, keyspaces, read_from, protocol):
    addresses = [NodeAddress("127.0.0.1", shared.port(node)) for node in NODES]
    for db in (0, *keyspaces.values()):
        client = GlideClient.create(GlideClientConfiguration(
            addresses, database_id=db, read_from=read_from, protocol=protocol, request_timeout=20_000))
        try:
            assert client.set("glide:k", "v") == "OK"
            assert client.hset("glide:h", {f"f{n}": str(n) for n in range(FIELDS)}) in (0, FIELDS)
            some = {f"glide:{db}:{n}": str(n) for n in range(KEYS)}
            assert client.mset(some) == "OK"

            def all_is_read():
                assert client.get("glide:k") == b"v" and client.exists(list(some)) == KEYS
                keys = scanned(lambda cursor: client.scan(cursor, match=f"glide:{db}:*", count=200))
                assert sorted(keys) == sorted(key.encode() for key in some)
                pairs = scanned(lambda cursor: client.hscan("glide:h", cursor, count=500))
                assert len(set(pairs[::2])) == FIELDS == len(pairs) // 2
                return True

            # Its reads may go to replicas, each of another one, and these have it a little later.
            eventually(all_is_read, 20, "all is where it reads")
            assert client.delete([*some, "glide:k", "glide:h"]) == KEYS + 2
        finally:
            client.close()


def test_glide_is_told_that_this_is_no_redis_cluster(shared):
    with pytest.raises(ClosingError):
        GlideClusterClient.create(GlideClusterClientConfiguration([NodeAddress("127.0.0.1", shared.port(NEAR))]))
