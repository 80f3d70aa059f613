"""Keys that live for a second are written without a pause, to copies across oceans: they are
deleted as fast as they come, and so are the cells of large hashes that are deleted meanwhile."""

import threading
import time

from cluster import eventually

WRITE_S = 10
A_PIPELINE = 200


def write_brief_keys(client, ends, written):
    """Keys of one second each, until told to end."""
    while not ends.is_set():
        pipe = client.pipeline(transaction=False)
        for _ in range(A_PIPELINE):
            pipe.set(f"brief:{written[0]}", "v", px=1000)
            written[0] += 1
        pipe.execute()


def test_expired_keys_do_not_pile_up(cluster):
    db = cluster.create("brief", "ACK", "sync", "PLACE", "us=1,eu=1,asia=1")
    primary = cluster.shards("brief")[0]["primary"]
    client = cluster.redis(primary, db=db)
    ends, counts = threading.Event(), [[n * 10_000_000] for n in range(4)]
    writers = [
        threading.Thread(
            target=write_brief_keys, args=(cluster.redis(primary, db=db, socket_timeout=60), ends, n)
        )
        for n in counts
    ]
    for writer in writers:
        writer.start()
    began, most = time.monotonic(), 0
    # Cells that a deletion leaves are purged beside all the writes.
    client.hset("large", mapping={f"f{n}": "v" for n in range(2000)})
    client.delete("large")
    while time.monotonic() - began < WRITE_S:
        time.sleep(0.5)
        most = max(most, client.dbsize())
    at_the_end = client.dbsize()
    ends.set()
    for writer in writers:
        writer.join()
    took = time.monotonic() - began
    written = sum(n[0] % 10_000_000 for n in counts)
    # Each lives for a second, and its deletion takes as long as its writing did.
    print(f"{written} written in {took:.1f} s, {at_the_end} there at the end, {most} at most")
    assert at_the_end < written / 2, f"{at_the_end} of {written} keys are there, {most} at most"
    eventually(lambda: client.dbsize() == 0, 20, "all are deleted")
    assert cluster.equal("brief")
