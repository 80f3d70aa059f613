"""Writes by schedule, whatever the servers do, from clients that try each until it is accepted.

Write n is `SET <prefix>:n n`, due n/rate seconds after the start, and belongs to client n mod
clients. A client has one connection; it sends what is due (up to BATCH at once), and what was
not accepted goes back to the front of its queue. Every key is written once, so whatever is
accepted and missing later was lost.
"""

import asyncio
import collections
import itertools
import threading
import time

from resp import Client, request

BATCH = 256
PAUSE_S = 0.01
SILENCE_MAX_S = 5
# Errors of a Redis that is not the primary.
ELSEWHERE = {"READONLY", "LOADING"}


class Load:
    """Runs in a thread of its own between `start` and `stop`.

    `find(client, attempt)` is a coroutine: the port where this client is to connect now, and the
    requests that open a connection there. All times are of time.monotonic().
    """

    def __init__(self, prefix, rate, clients, find):
        self.prefix, self.rate, self.find = prefix, rate, find
        self.queues = [collections.deque() for _ in range(clients)]
        self.accepted = []  # (n, client, when it was sent, when the reply was read)
        self.errors = collections.Counter()
        self.over = self.due = False
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()), daemon=True)

    def start(self):
        self.due = True
        self.thread.start()
        return self

    def stop(self, within_s=15):
        """Lets nothing more fall due; how many writes are still not accepted after that time."""
        self.due = False
        deadline = time.monotonic() + within_s
        while any(self.queues) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.over = True
        self.thread.join(SILENCE_MAX_S + 5)
        return sum(map(len, self.queues))

    def first_after(self, moment):
        """When the first write that was sent after `moment` was accepted, or None."""
        return min((got for _, _, sent, got in self.accepted[:] if sent > moment), default=None)

    def last_client_after(self, moment):
        """When every client had a write accepted that it sent after `moment`, or None."""
        firsts = {}
        for _, client, sent, got in self.accepted[:]:
            if sent > moment:
                firsts[client] = min(got, firsts.get(client, got))
        return max(firsts.values()) if len(firsts) == len(self.queues) else None

    async def run(self):
        clients = [asyncio.create_task(self.client(c)) for c in range(len(self.queues))]
        began, n = time.monotonic(), 0
        while self.due:
            while n / self.rate <= time.monotonic() - began:
                self.queues[n % len(self.queues)].append(n)
                n += 1
            await asyncio.sleep(0.001)
        await asyncio.gather(*clients)

    async def client(self, number):
        for attempt in itertools.count():
            if self.over:
                return
            writer = None
            try:
                port, opening = await self.find(number, attempt)
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                await self.talk(number, reader, writer, opening)
            except (OSError, EOFError, TimeoutError) as error:
                self.errors[type(error).__name__] += 1
                await asyncio.sleep(PAUSE_S)
            finally:
                if writer:
                    writer.close()

    async def talk(self, number, reader, writer, opening):
        """Until the connection breaks, or the server says that it is the wrong one."""
        async with asyncio.timeout(SILENCE_MAX_S):
            for words in opening:
                writer.write(request(*words))
                await self.line(reader)
        queue = self.queues[number]
        while not self.over:
            batch = list(itertools.islice(queue, BATCH))
            if not batch:
                await asyncio.sleep(0.0005)
                continue
            sent = time.monotonic()
            writer.write(b"".join(request("SET", f"{self.prefix}:{n}", n) for n in batch))
            refused = dict.fromkeys(batch)
            try:
                async with asyncio.timeout(SILENCE_MAX_S):
                    for n in batch:
                        line = await self.line(reader)
                        if line == b"+OK\r\n":
                            self.accepted.append((n, number, sent, time.monotonic()))
                            del refused[n]
                        else:
                            refused[n] = line[1:].split()[0].decode()
                            self.errors[refused[n]] += 1
            finally:
                for _ in batch:
                    queue.popleft()
                queue.extendleft(reversed(refused))
            if ELSEWHERE.intersection(refused.values()):
                raise EOFError
            if refused:
                await asyncio.sleep(PAUSE_S)

    @staticmethod
    async def line(reader):
        line = await reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        return line


def missing(port, keyspace, prefix, numbers):
    """Those of the written numbers that are not there."""
    client, lost = Client(port, keyspace, timeout_s=20), []
    for at in range(0, len(numbers), 500):
        some = numbers[at:at + 500]
        values = client.call("MGET", *(f"{prefix}:{n}" for n in some))
        lost += [n for n, value in zip(some, values) if value != str(n)]
    client.close()
    return lost
