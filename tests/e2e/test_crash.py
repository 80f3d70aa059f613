"""What was acknowledged is there after every process was killed at a random moment."""

import os
import random
import threading
import time

import redis

from cluster import NODES, eventually

ROUNDS = int(os.environ.get("QUIRE_CRASH_ROUNDS", "5"))


class Writer(threading.Thread):
    """Writes growing numbers to keys of its own, and remembers what was acknowledged.

    After a crash a key holds a number from the last acknowledged one to the last attempted."""

    def __init__(self, cluster, number, node, pipelined):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.node = node
        self.number = number
        self.pipelined = pipelined
        self.acknowledged = {}
        self.attempted = {}
        self.over = threading.Event()
        self.refused = []

    def forget_nothing_but_go_on(self):
        """The same keys and numbers, with a new thread."""
        other = Writer(self.cluster, self.number, self.node, self.pipelined)
        other.acknowledged, other.attempted = self.acknowledged, self.attempted
        return other

    def run(self):
        client = self.cluster.redis(self.node, socket_timeout=10)
        sequence = max(self.attempted.values(), default=0)
        counter = f"w{self.number}:counter"
        while not self.over.is_set():
            pipe = client.pipeline(transaction=False)
            sent = []
            for _ in range(self.pipelined):
                sequence += 1
                key = f"w{self.number}:{sequence % 97}"
                what = sequence % 3
                if what == 0:
                    pipe.set(key, sequence)
                    sent.append((key, sequence))
                elif what == 1:
                    pipe.hset(f"{key}:h", mapping={"n": sequence, "pad": "x" * 200})
                    sent.append((f"{key}:h", sequence))
                else:
                    pipe.incr(counter)
                    sent.append((counter, self.attempted.get(counter, 0) + 1))
                key, value = sent[-1]
                self.attempted[key] = value
            try:
                replies = pipe.execute(raise_on_error=False)
            except (redis.ConnectionError, redis.TimeoutError):
                return
            for (key, value), reply in zip(sent, replies):
                if isinstance(reply, Exception):
                    self.refused.append(str(reply))
                    continue
                if key == counter:
                    # Single writer, so the reply is the count.
                    value = reply
                self.acknowledged[key] = max(value, self.acknowledged.get(key, 0))

    def check(self, client, where):
        keys = list(self.attempted)
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.hget(key, "n") if key.endswith(":h") else pipe.get(key)
        for key, value in zip(keys, pipe.execute()):
            low, high = self.acknowledged.get(key, 0), self.attempted[key]
            assert low <= int(value or 0) <= high, (
                f"{key} is {value} on {where}: {low} was acknowledged, {high} attempted"
            )
        return True


def test_crash(cluster):
    rng = random.Random()
    places = [("us-1", 1), ("us-1", 16), ("us-2", 1), ("us-3", 8), ("eu-1", 4), ("asia-1", 16)]
    writers = [Writer(cluster, n, node, p) for n, (node, p) in enumerate(places)]
    for round_number in range(ROUNDS):
        before = sum(len(w.acknowledged) for w in writers)
        for writer in writers:
            writer.start()
        time.sleep(0.6 + rng.random() * 1.5)
        cluster.kill(*NODES)
        for writer in writers:
            writer.over.set()
            writer.join(15)
            assert not writer.is_alive()
        assert sum(len(w.acknowledged) for w in writers) > before or round_number > 0
        eventually(
            lambda: all(f"node {node} is gone" in cluster.said() for node in NODES), 10,
            "the demo says that all are gone"
        )
        cluster.stop()
        cluster.start()
        primary = cluster.redis("us-1")
        for writer in writers:
            writer.check(primary, f"us-1 after round {round_number}")
        for node in NODES[1:]:
            client = cluster.redis(node)
            for writer in writers:
                eventually(
                    lambda w=writer, c=client, n=node: w.check(c, n), 15, f"{node} catches up"
                )
        assert cluster.equal()
        writers = [w.forget_nothing_but_go_on() for w in writers]
    assert sum(w.acknowledged.get(f"w{w.number}:counter", 0) for w in writers) > 50
