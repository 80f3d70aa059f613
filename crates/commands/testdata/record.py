#!/usr/bin/env python3
"""Records what redis-server answers to random commands, as a transcript to be replayed.

    redis-server --port 16379 --save '' &
    ./record.py 16379 > transcript.txt

The replay demands equal bytes, so nothing recorded depends on the time, and replies whose order
Redis leaves open are put into ours: fields by their bytes, a scan's keys by slot and then bytes.
The database is flushed. The seed is fixed: the same server version gives the same file.

Lines come in pairs: '> ' and the arguments, '< ' and the reply. Bytes that don't print stand as
\\xNN, also spaces in arguments; an empty argument is "".
"""
import binascii
import pathlib
import random
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tests/differential"))
from generate import Generator, looks  # noqa: E402
from payloads import PAYLOADS  # noqa: E402

COMMANDS = 6000
generator = Generator(random.Random(7))


class Redis:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def call(self, args):
        """Returns the raw reply."""
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args)
        self.socket.sendall(b"*%d\r\n%s" % (len(args), parts))
        return self.read()

    def read(self):
        line = self.file.readline()
        if line[:1] == b"$" and line != b"$-1\r\n":
            return line + self.file.read(int(line[1:]) + 2)
        if line[:1] == b"*" and line != b"*-1\r\n":
            return line + b"".join(self.read() for _ in range(int(line[1:])))
        return line


def bulks(raw):
    """The byte strings of a raw array of them."""
    rest = raw[raw.index(b"\r\n") + 2:]
    found = []
    while rest:
        head, rest = rest.split(b"\r\n", 1)
        length = int(head[1:])
        found.append(rest[:length])
        rest = rest[length + 2:]
    return found


def array(strings):
    return b"*%d\r\n" % len(strings) + b"".join(b"$%d\r\n%s\r\n" % (len(s), s) for s in strings)


def slot(key):
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start)
        if end > start + 1:
            key = key[start + 1:end]
    return binascii.crc_hqx(key, 0) % 16384


def text(data, space):
    plain = lambda b: 0x21 <= b <= 0x7E and b not in b'\\"' or b == 0x20 and space
    return "".join(chr(b) if plain(b) else "\\x%02x" % b for b in data)


# Whose place in the table is compared too.
DESCRIBED = b"""get set mget mset setnx getset getdel incr incrby decr decrby append strlen hset hmset hget
    hmget hgetall hdel hexists hlen hkeys hvals hincrby hsetnx del unlink exists type expire pexpire ttl pttl
    persist scan dbsize flushdb ping echo hello select reset quit info role time wait readonly
    readwrite setbit getbit bitcount bitpos bitop bitfield bitfield_ro getex setex psetex setrange getrange
    substr incrbyfloat msetnx lcs hscan hrandfield hincrbyfloat hstrlen rename renamenx copy keys randomkey
    touch expireat pexpireat expiretime pexpiretime object|encoding object|freq object|idletime
    object|refcount object|help dump restore flushall swapdb memory|usage memory|help debug client|id
    client|getname client|setname client|kill client|list client|info client|no-evict client|pause
    client|unpause client|reply client|unblock client|tracking client|trackinginfo client|caching
    client|getredir client|help config|get config|set config|resetstat config|rewrite config|help slowlog|get
    slowlog|len slowlog|reset slowlog|help latency|latest latency|history latency|reset latency|histogram
    latency|doctor latency|graph latency|help command|count command|info command|docs command|list
    command|getkeys command|help""".split()


TIMED = (b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME")
OWN = (b"RANDOMKEY", b"DUMP", b"MEMORY")


def crc64(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


def answer(redis, args):
    """The reply as it is recorded, or None if it isn't."""
    raw = redis.call(args)
    name = args[0].upper()
    if name in TIMED and raw[:1] == b":" and int(raw[1:]) > 0:
        return None
    if name in OWN and raw[:1] in b"$:" or name == b"HRANDFIELD" and raw[:1] in b"*$" and raw != b"*0\r\n":
        return None  # Left to chance, or to each server.
    if name == b"OBJECT" and args[1:2] and args[1].upper() in (b"ENCODING", b"REFCOUNT", b"IDLETIME") \
            and raw[:1] in b"$:" and raw != b"$-1\r\n":
        return None
    if raw[:1] == b"-" and raw != raw.decode(errors="replace").encode():
        return None  # An error line of ours is text.
    if name == b"COMMAND" and raw[:1] == b"*" and b"GETKEYS" not in args:
        return None
    if name == b"HSCAN" and raw.startswith(b"*2\r\n$1\r\n0\r\n*"):
        flat = bulks(raw[len(b"*2\r\n$1\r\n0\r\n"):])
        in_order = sorted(zip(flat[::2], flat[1::2]), key=lambda pair: (crc64(pair[0]) or 1, pair[0]))
        return b"*2\r\n$1\r\n0\r\n" + array([x for pair in in_order for x in pair])
    if raw[:1] != b"*":
        return raw
    if name == b"KEYS":
        return array(sorted(bulks(raw), key=lambda k: (slot(k), k)))
    if name == b"HKEYS":
        return array(sorted(bulks(raw)))
    if name in (b"HGETALL", b"HVALS"):
        flat = bulks(redis.call([b"HGETALL", args[1]]))
        in_order = sorted(zip(flat[::2], flat[1::2]))
        return array([x for pair in in_order for x in pair[name == b"HVALS":]])
    if name == b"SCAN":
        head = b"*2\r\n$1\r\n0\r\n"
        if not raw.startswith(head) or b"1000" not in args:
            return None  # Where a scan stops is the server's own.
        return head + array(sorted(bulks(raw[len(head):]), key=lambda k: (slot(k), k)))
    return raw


def main():
    redis = Redis(int(sys.argv[1]))
    version = [l for l in redis.call([b"INFO", b"server"]).split(b"\r\n") if l.startswith(b"redis_version")][0]
    print("# %s, seed 7; see record.py" % version.decode())
    redis.call([b"FLUSHALL"])

    def record(args):
        reply = answer(redis, args)
        if reply is not None:
            print(">", " ".join(text(a, False) or '""' for a in args))
            print("<", text(reply, True).replace("\\x0d\\x0a", "\\r\\n"))

    for name in DESCRIBED:
        record([b"COMMAND", b"INFO", name])
    record([b"COMMAND", b"DOCS", b"dbsize", b"nope"])
    for payload in PAYLOADS:
        record([b"RESTORE", b"restored", b"0", payload, b"REPLACE"])
        for name in (b"GET", b"HGETALL", b"HLEN"):
            record([name, b"restored"])
    record([b"DEL", b"restored"])
    for _ in range(COMMANDS):
        args = generator.command()
        if args[0].upper() == b"COPY" and b"DB" in args:
            continue  # A shard knows one database.
        record(args)
        for look in looks(args):
            record(look)


main()
