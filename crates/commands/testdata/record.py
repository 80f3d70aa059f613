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
import random
import socket
import sys

COMMANDS = 3000
random.seed(7)
pick = random.choice
chance = lambda p: random.random() < p


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


KEYS = [b"k%d" % n for n in range(9)] + [b"{k1}a", b"", b"\x00\xff\r\n", b"key with space"]
FIELDS = [b"f%d" % n for n in range(7)] + [b"", b"1", b"\xfe\x00"]
NUMBERS = [b"0", b"1", b"-1", b"5", b"10", b"-37", b"9223372036854775807", b"-9223372036854775808",
           b"9223372036854775806", b"9223372036854775808", b"007", b"+1", b"-0", b"", b" 1", b"1.5",
           b"1e3", b"abc"]
TEXTS = [b"", b"hello", b"v", b"a longer value with spaces", b"\x00\x01\xff", b"x" * 70]
PATTERNS = [b"*", b"k*", b"k[1-4]", b"k[^1-4]", b"?", b"??", b"*a*", b"[", b"k\\1", b"**", b"", b"k[4-2",
            b"{*}*"]

key = lambda: pick(KEYS)
field = lambda: pick(FIELDS)
number = lambda: pick(NUMBERS[:6]) if chance(0.7) else pick(NUMBERS)
value = lambda: number() if chance(0.6) else pick(TEXTS)
# So far apart that a moment more or less never decides between two of them.
far = lambda unit: b"%d" % (random.randint(10**6, 10**9) * unit)
far_at = lambda unit: b"%d" % (random.randint(10**10, 10**12) * unit)


def seconds_or_worse(time):
    if chance(0.8):
        return time
    return pick([b"0", b"-1", b"-5", b"9223372036854775807", b"-9223372036854775808",
                 b"9223372036854775", b"-9223372036854775", b"abc", b"", b"1.0"])


def set_options():
    options = []
    for _ in range(pick([0, 0, 0, 1, 1, 2, 3])):
        options += pick([
            [b"NX"], [b"XX"], [b"GET"], [b"get"], [b"KEEPTTL"], [b"keepttl"],
            [b"EX", seconds_or_worse(far(1))], [b"px", seconds_or_worse(far(1000))],
            [b"EXAT", seconds_or_worse(far_at(1))], [b"PXAT", seconds_or_worse(far_at(1000))],
            [b"EXAT", b"1000"], [b"PXAT", b"1"], [b"PX"], [b"bogus"],
        ])
    return options


def expire_options():
    words = [b"NX", b"XX", b"GT", b"LT", b"gt", b"lt", b"bogus"]
    return [pick(words) for _ in range(pick([0, 0, 1, 1, 1, 2]))]


def pairs(first, count):
    return [x for _ in range(count) for x in (first(), value())]


def several(what):
    return [what() for _ in range(random.randint(1, 4))]


COMMANDS_BY_WEIGHT = [
    (4, lambda: [b"GET", key()]),
    (8, lambda: [b"SET", key(), value()] + set_options()),
    (2, lambda: [b"MGET"] + several(key)),
    (2, lambda: [b"MSET"] + pairs(key, random.randint(1, 3))),
    (2, lambda: [b"SETNX", key(), value()]),
    (2, lambda: [b"GETSET", key(), value()]),
    (2, lambda: [b"GETDEL", key()]),
    (3, lambda: [b"INCR", key()]),
    (2, lambda: [b"INCRBY", key(), number()]),
    (2, lambda: [b"DECR", key()]),
    (2, lambda: [b"DECRBY", key(), number()]),
    (2, lambda: [b"APPEND", key(), value()]),
    (2, lambda: [b"STRLEN", key()]),
    (8, lambda: [b"HSET", key()] + pairs(field, random.randint(1, 4))),
    (1, lambda: [b"HSET", key()] + [x for n in range(70) for x in (b"big%d" % n, b"1")]),
    (2, lambda: [b"HMSET", key()] + pairs(field, random.randint(1, 3))),
    (3, lambda: [b"HGET", key(), field()]),
    (2, lambda: [b"HMGET", key()] + several(field)),
    (2, lambda: [b"HGETALL", key()]),
    (4, lambda: [b"HDEL", key()] + several(field)),
    (1, lambda: [b"HDEL", key()] + FIELDS),
    (2, lambda: [b"HEXISTS", key(), field()]),
    (3, lambda: [b"HLEN", key()]),
    (1, lambda: [b"HKEYS", key()]),
    (1, lambda: [b"HVALS", key()]),
    (3, lambda: [b"HINCRBY", key(), field(), number()]),
    (2, lambda: [b"HSETNX", key(), field(), value()]),
    (4, lambda: [b"DEL"] + several(key)),
    (2, lambda: [b"UNLINK"] + several(key)),
    (2, lambda: [b"EXISTS"] + several(key)),
    (2, lambda: [b"TYPE", key()]),
    (5, lambda: [b"EXPIRE", key(), seconds_or_worse(far(1))] + expire_options()),
    (5, lambda: [b"PEXPIRE", key(), seconds_or_worse(far(1000))] + expire_options()),
    (3, lambda: [b"TTL", key()]),
    (2, lambda: [b"PTTL", key()]),
    (3, lambda: [b"PERSIST", key()]),
    (3, lambda: [b"SCAN", pick([b"0", b"0", b"0", b"", b"x", b"1x"])] + [x for _ in range(
        random.randint(0, 3)) for x in pick([
            [b"MATCH", pick(PATTERNS)], [b"COUNT", b"1000"], [b"count", b"1000"],
            [b"COUNT", pick([b"0", b"-1", b"x"])], [b"TYPE", pick([b"string", b"HASH", b"set"])],
            [b"bogus", b"1"], [b"COUNT"]])]),
    (2, lambda: [b"DBSIZE"]),
    (0.3, lambda: [b"FLUSHDB"] + pick([[], [b"ASYNC"], [b"sync"], [b"bogus"], [b"sync", b"async"]])),
    (0.5, lambda: [pick([b"NOPE", b"gett", b"", b"a\r\nb"])] + several(value)),
    (0.5, lambda: [b"COMMAND", b"GETKEYS"] + pick([
        [b"GET", b"a"], [b"MSET", b"a", b"1", b"b", b"2"], [b"DEL", b"a", b"b", b"c"], [b"DBSIZE", b"a"],
        [b"GET", b"a", b"b"], [b"NOPE", b"a"], [b"GET"], []])),
    (0.2, lambda: [b"COMMAND"] + pick([[b"BOGUS"], [b"COUNT", b"x"], [b"INFO", b"nope"], [b"DOCS", b"nope"],
                                       [b"LIST", b"x"], [b"LIST", b"FILTERBY", b"ACLCAT", b"nope"],
                                       [b"LIST", b"FILTERBY", b"MODULE", b"x"]])),
]
WEIGHTS = [w for w, _ in COMMANDS_BY_WEIGHT]
MAKERS = [m for _, m in COMMANDS_BY_WEIGHT]

# Whose place in the table is compared too.
DESCRIBED = b"""get set mget mset setnx getset getdel incr incrby decr decrby append strlen hset hmset hget
    hmget hgetall hdel hexists hlen hkeys hvals hincrby hsetnx del unlink exists type expire pexpire ttl pttl
    persist scan dbsize flushdb ping echo hello select reset quit info role time wait readonly
    readwrite""".split()


def command():
    args = random.choices(MAKERS, WEIGHTS)[0]()
    if chance(0.03) and len(args) > 1:
        args.pop()
    elif chance(0.02):
        args.append(value())
    if chance(0.2):
        args[0] = args[0].lower()
    return args


def answer(redis, args):
    """The reply as it is recorded, or None if it isn't."""
    raw = redis.call(args)
    name = args[0].upper()
    if raw[:1] != b"*":
        return None if name in (b"TTL", b"PTTL") and int(raw[1:].split(b" ")[0] if raw[:1] == b":" else 0) > 0 \
            else raw
    if name == b"HKEYS":
        return array(sorted(bulks(raw)))
    if name in (b"HGETALL", b"HVALS"):
        flat = bulks(redis.call([b"HGETALL", args[1]]))
        in_order = sorted(zip(flat[::2], flat[1::2]))
        return array([x for pair in in_order for x in pair[name == b"HVALS":]])
    if name == b"SCAN":
        head = b"*2\r\n$1\r\n0\r\n"
        if not raw.startswith(head):
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
    for _ in range(COMMANDS):
        args = command()
        record(args)
        if b"1000" in args or b"1" in args[3:]:
            # Redis keeps what was set and over in the same moment until someone looks.
            record([b"EXISTS", args[1]])


main()
