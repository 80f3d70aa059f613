"""Clients that write a key only once, and remember what they were told of each, and when.

All times are CLOCK_MONOTONIC of this process, so the times of two writers compare.
"""

import dataclasses
import threading
import time

import redis

# The errors that say that nothing was taken (docs/operations.md).
NOT_TAKEN = ("NOPRIMARY", "BUSY", "MISCONF", "TRYAGAIN", "NOKEYSPACE")


@dataclasses.dataclass
class Write:
    key: str
    sent: float
    got: float
    said: str  # "accepted", "refused", or "unknown"
    why: str


class Writer(threading.Thread):
    """One connection at one node; a new one whenever it breaks."""

    def __init__(self, cluster, keyspace, node, name, pause_s=0.0, timeout_s=5):
        super().__init__(daemon=True)
        self.cluster, self.keyspace, self.node, self.label = cluster, keyspace, node, name
        self.pause_s, self.timeout_s = pause_s, timeout_s
        self.writes = []
        self.over = threading.Event()

    def run(self):
        client = None
        n = 0
        while not self.over.is_set():
            key = f"{self.label}:{n}"
            sent = time.monotonic()
            try:
                if client is None:
                    client = self.cluster.redis(
                        self.node, socket_timeout=self.timeout_s, db=self.keyspace
                    )
                    client.ping()
                    sent = time.monotonic()
                client.set(key, n)
                said, why = "accepted", ""
            except redis.ResponseError as error:
                said = "refused" if str(error).startswith(NOT_TAKEN) else "unknown"
                why = str(error)
            except redis.RedisError as error:
                said, why = "unknown", str(error)
                if client:
                    client.connection_pool.disconnect()
                time.sleep(0.02)
            self.writes.append(Write(key, sent, time.monotonic(), said, why))
            n += 1
            time.sleep(self.pause_s)

    def accepted(self):
        return [w for w in self.writes[:] if w.said == "accepted"]


class Writers:
    """Several of them, as one; ends with the block."""

    def __init__(self, cluster, keyspace, nodes, name, **options):
        self.cluster, self.keyspace = cluster, keyspace
        self.all = [
            Writer(cluster, keyspace, node, f"{name}:{n}", **options)
            for n, node in enumerate(nodes)
        ]

    def __enter__(self):
        for writer in self.all:
            writer.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for writer in self.all:
            writer.over.set()
        for writer in self.all:
            writer.join(30)
            assert not writer.is_alive(), f"a write at {writer.node} is not answered"

    def writes(self):
        return [w for writer in self.all for w in writer.writes[:]]

    def accepted(self):
        return [w for w in self.writes() if w.said == "accepted"]

    def first_accepted(self, after):
        """When the first write that was sent after that moment was accepted, or None."""
        return min((w.got for w in self.accepted() if w.sent > after), default=None)

    def outcome(self, node):
        """(accepted and missing, refused and there), as `node`, which holds a copy, reads them."""
        client = self.cluster.redis(node, db=self.keyspace)
        writes, missing, wrong = self.writes(), [], []
        for at in range(0, len(writes), 500):
            some = writes[at : at + 500]
            pipe = client.pipeline(transaction=False)
            for write in some:
                pipe.get(write.key)
            for write, value in zip(some, pipe.execute()):
                if write.said == "accepted" and value != write.key.rsplit(":", 1)[1]:
                    missing.append(write)
                if write.said == "refused" and value is not None:
                    wrong.append(write)
        return missing, wrong
