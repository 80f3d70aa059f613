"""A data directory that an older release wrote is read by this one (`testdata/node-v1.tgz`)."""

import os
import tarfile

from cluster import BASE_PORT, ROOT, eventually

CONFIG = """id = "us-1"
region = "us"
zone = "us-a"
client_addr = "127.0.0.1:{0}"
peer_addr = "127.0.0.1:{1}"
http_addr = "127.0.0.1:{2}"
data_dir = "data"
[cluster]
name = "demo"
control_voters = ["us-1"]
"""

# Zeros behind the log's end were left out of the archive.
LOG_FILE_BYTES = 64 << 20


def test_the_first_release_s_data(unstarted):
    directory = unstarted.dir / "us-1"
    with tarfile.open(ROOT / "testdata/node-v1.tgz") as archive:
        archive.extractall(unstarted.dir, filter="data")
    for log in (directory / "data/log").iterdir():
        os.truncate(log, LOG_FILE_BYTES)
    identity = (directory / "data/identity").read_text()
    (directory / "node.toml").write_text(CONFIG.format(BASE_PORT, BASE_PORT + 20, BASE_PORT + 40))
    unstarted.server("us-1")
    client = unstarted.redis("us-1")
    eventually(lambda: client.ping(), 10, "the node answers")
    eventually(lambda: client.set("new", 1), 15, "its shards have a primary")
    assert client.get("string") == "value"
    assert client.hgetall("hash") == {"f1": "v1", "f2": "v2"}
    assert client.get("counter") == "42" and client.incr("counter") == 43
    assert client.get("gone") is None
    assert client.ttl("lasting") > 3_000_000_000
    assert client.dbsize() == 5
    other = unstarted.redis("us-1", db=1)
    assert other.get("other") == "keyspace"
    names = [facts["name"] for facts in unstarted.status()["keyspaces"]]
    assert names == ["profiles", "second"], names
    assert (directory / "data/identity").read_text().splitlines()[0] == identity.splitlines()[0]
