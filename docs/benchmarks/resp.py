"""As much of RESP2 as the benchmarks need: requests to bytes, and a client that waits for replies."""

import socket
import time


class Refused(Exception):
    """The server answered an error."""


def request(*words) -> bytes:
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class Client:
    """A connection; `call` raises OSError when it breaks and Refused for an error reply."""

    def __init__(self, port: int, keyspace: str | None = None, timeout_s: float = 5):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.file = self.socket.makefile("rb")
        if keyspace is not None:
            self.call("SELECT", keyspace)

    def call(self, *words):
        self.socket.sendall(request(*words))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Refused(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest.decode()
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode(errors="replace")
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        raise ConnectionError(f"not RESP2: {line!r}")

    def close(self):
        self.file.close()
        self.socket.close()


def ask(port: int, *words, keyspace: str | None = None, timeout_s: float = 5):
    """One call on a connection of its own."""
    client = Client(port, keyspace, timeout_s)
    try:
        return client.call(*words)
    finally:
        client.close()


def until(check, within_s, every_s=0.05):
    """What `check` returns once that is true, or None."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        result = check()
        if result:
            return result
        time.sleep(every_s)
    return None
