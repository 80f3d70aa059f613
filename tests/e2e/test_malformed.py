"""What is no RESP gets an error and the end of its connection; nobody else notices."""

import os
import random
import socket
import time

import pytest

from cluster import ROOT

CORPUS = ROOT / "crates/resp/testdata/malformed"


def cases():
    for line in (CORPUS / "INDEX").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, replies, outcome = line.split("\t")
            yield name, int(replies), outcome


def connect(shared, node="us-1"):
    sock = socket.create_connection(("127.0.0.1", shared.port(node)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(2)
    return sock


def read_until_closed(sock, within_s):
    """All that comes, and whether the other end closed."""
    got, deadline = b"", time.monotonic() + within_s
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            part = sock.recv(65536)
        except TimeoutError:
            break
        except ConnectionError:
            return got, True
        if not part:
            return got, True
        got += part
    return got, False


@pytest.mark.parametrize("node", ["us-1", "asia-2"])
def test_the_corpus(shared, node):
    all_cases = list(cases())
    assert {name for name, _, _ in all_cases} == {p.name for p in CORPUS.iterdir()} - {"INDEX"}
    other = shared.redis("us-1")
    opened = []
    for name, replies, outcome in all_cases:
        sock = connect(shared, node)
        try:
            sock.sendall((CORPUS / name).read_bytes())
        except ConnectionError:
            pass
        if outcome == "open":
            opened.append((name, replies, sock))
            continue
        got, closed = read_until_closed(sock, 2)
        assert closed, f"{name}: not closed, {got!r}"
        lines = got.split(b"\r\n")
        assert len(lines) == replies + 2, f"{name}: {got!r}"
        # The text as the file names it: bytes that can't be printed are escaped.
        assert lines[-2].startswith(b"-ERR Protocol error"), f"{name}: {got!r}"
        if "\\x" not in outcome:
            assert lines[-2] == b"-" + outcome.encode(), f"{name}: {got!r}"
        sock.close()
        assert other.set("alive", name) and other.get("alive") == name
    for name, replies, sock in opened:
        got, closed = read_until_closed(sock, 0.1)
        assert not closed, f"{name}: closed, {got!r}"
        assert got.count(b"\r\n") >= replies, f"{name}: {got!r}"
        sock.close()
    assert len(opened) > 20


def test_an_error_comes_behind_the_replies_of_what_was_sent_before(shared):
    # At a replica, where writes and the reads behind them are away for a while.
    for node in ("us-1", "us-2", "asia-1"):
        sock = connect(shared, node)
        sock.sendall(
            b"*3\r\n$3\r\nSET\r\n$5\r\norder\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$5\r\norder\r\n*1\r\n$4\r\nPING\r\n*x\r\n"
        )
        got, closed = read_until_closed(sock, 3)
        assert closed, f"{node}: {got!r}"
        want = b"+OK\r\n$1\r\n1\r\n+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"
        assert got == want, f"{node}: {got!r}"


def test_quit_is_answered_last(shared):
    for node in ("us-1", "us-2", "asia-1"):
        sock = connect(shared, node)
        sock.sendall(b"SET quit 1\r\nGET quit\r\nQUIT\r\n")
        got, closed = read_until_closed(sock, 3)
        assert closed and got == b"+OK\r\n$1\r\n1\r\n+OK\r\n", f"{node}: {got!r}"


def test_half_frames_that_trickle(shared):
    slow = [connect(shared) for _ in range(20)]
    frame = b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$5\r\nhello\r\n"
    other = shared.redis("us-1")
    for at in range(len(frame)):
        for sock in slow:
            sock.sendall(frame[at : at + 1])
        began = time.monotonic()
        other.set("quick", at)
        assert time.monotonic() - began < 1
    for sock in slow:
        assert sock.recv(100) == b"+OK\r\n"
        sock.close()


def test_garbage_on_many_connections(shared):
    rng = random.Random(7)
    other = shared.redis("us-1")
    socks = [connect(shared) for _ in range(64)]
    for round_number in range(10):
        for n, sock in enumerate(socks):
            start = rng.choice([b"", b"*", b"$", b"*2\r\n$3\r\nGET\r\n$", b"*1\r\n$9\r\nFROBNICAT\r\n"])
            try:
                sock.sendall(start + os.urandom(rng.randrange(1, 3000)))
            except OSError:
                sock.close()
                socks[n] = connect(shared)
        assert other.set("garbage", round_number) and other.get("garbage") == str(round_number)
    for sock in socks:
        sock.close()
    assert other.ping()


def resident_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1000


def test_clients_that_never_read(shared):
    """Their input is left unread once their output is full; others go on."""
    other = shared.redis("us-1")
    other.set("big", "x" * 1_000_000)
    pid = shared.pid("us-1")
    before = resident_mb(pid)
    sock = connect(shared)
    sock.settimeout(3)
    command = b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n"
    sent = 0
    try:
        for _ in range(400):
            sent += sock.send(command * 50)
    except TimeoutError:
        pass
    grown = resident_mb(pid) - before
    assert grown < 200, f"{grown} MB more for one client that does not read"
    assert other.get("big") and other.ping()
    sock.close()
    other.delete("big")
