#!/usr/bin/env python3
"""Sends the same random commands to redis-server and to Quire, and compares the replies byte for byte.

    redis-server --port 16379 --save '' &
    quire demo --nodes us=1 --wan none --no-workload --base-port 17001 &
    redis-cli -p 17001 KEYSPACE CREATE other PLACE us=1
    ./differential.py --redis 16379 --quire 17001 --other other [--commands 1000000] [--seed 1]

Both must be Redis 7.0.15, or claim to be; BOTH ARE FLUSHED. Batches are pipelined, every other one
in RESP3; after each, all that the two hold is compared too. Ends with 0 if nothing differed but
what `known` below names, and each of those was seen.
"""

import argparse
import collections
import random
import socket
import sys
import time

import command_docs
import server_commands
from generate import FIELDS, KEYS, Generator, looks

BATCH = 400
# Commands of several keys that Quire does not take apart.
WHOLE = (b"RENAME", b"RENAMENX", b"MSETNX", b"BITOP", b"LCS")
# What two clocks and a slow machine may make of a time to live, in seconds.
APART_S_MAX = 120

Error = collections.namedtuple("Error", "line")


class Server:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb", 1 << 20)

    def send(self, batch):
        out = bytearray()
        for args in batch:
            out += b"*%d\r\n" % len(args)
            for arg in args:
                out += b"$%d\r\n%s\r\n" % (len(arg), arg)
        self.socket.sendall(out)

    def read(self):
        """The next reply as it came, and as a value: a list for an array, pairs for a map."""
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in (b"$", b"="):
            if rest == b"-1":
                return line, None
            body = self.file.read(int(rest) + 2)
            return line + body, body[:-2]
        if kind in b"*~%":
            if rest == b"-1":
                return line, None
            raw, values = [line], []
            for _ in range(int(rest) * (2 if kind == b"%" else 1)):
                part, value = self.read()
                raw.append(part)
                values.append(value)
            return b"".join(raw), values
        if kind == b":":
            return line, int(rest)
        if kind == b"-":
            return line, Error(rest)
        if kind == b"_":
            return line, None
        if not kind:
            raise EOFError("the server closed the connection")
        return line, rest

    def call(self, *args):
        self.send([args])
        return self.read()[1]


def ordered(values, pairs):
    """What may come in any order, in one."""
    if pairs and values and not isinstance(values[0], list):
        values = list(zip(values[::2], values[1::2]))
    return sorted(values, key=repr)


def same(args, ours, theirs, protocol):
    """Whether two replies say the same, where Redis leaves open how."""
    name = args[0].upper()
    if isinstance(ours, Error) or isinstance(theirs, Error):
        return False
    if name in (b"TTL", b"EXPIRETIME", b"PTTL", b"PEXPIRETIME"):
        unit = 1000 if name[:1] == b"P" else 1
        return min(ours, theirs) > 0 and abs(ours - theirs) <= APART_S_MAX * unit
    if isinstance(ours, list) and isinstance(theirs, list):
        if name in (b"HSCAN", b"SCAN"):
            pairs = name == b"HSCAN"
            return ours[0] == theirs[0] == b"0" and ordered(ours[1], pairs) == ordered(theirs[1], pairs)
        if name in (b"HKEYS", b"HVALS", b"KEYS", b"HGETALL"):
            return ordered(ours, name == b"HGETALL") == ordered(theirs, name == b"HGETALL")
        if name == b"HRANDFIELD":
            if int(args[2]) >= 1000:
                return ordered(ours, len(args) > 3) == ordered(theirs, len(args) > 3)
            known = [x for pair in ours + theirs for x in (pair if isinstance(pair, list) else [pair])]
            return len(ours) == len(theirs) and all(isinstance(x, bytes) for x in known)
    if name == b"HRANDFIELD" and len(args) == 2 or name == b"RANDOMKEY":
        places = KEYS if name == b"RANDOMKEY" else FIELDS + [b"big%d" % n for n in range(70)] + FIELDS_RESTORED
        return ours in places and theirs in places
    return False


# Fields that the payloads of RESTORE have.
FIELDS_RESTORED = [b"f7", b"f8", b"f9", b"l"] + [bytes([c]) for c in b"abcdefghijk"]


def takes_all(args):
    """Whether the count of a scan, the last one given, is above all that there is."""
    counts = [args[n + 1] for n, word in enumerate(args[:-1]) if word.upper() == b"COUNT"]
    return counts[-1:] == [b"1000"]


def known(args, ours, theirs, keyspace):
    """The name of a difference that is meant, or None."""
    name = args[0].upper()
    sub = args[1].upper() if len(args) > 1 else b""
    if (name, sub) == (b"OBJECT", b"ENCODING"):
        if (ours, theirs) in ((b"int", b"raw"), (b"embstr", b"raw"), (b"int", b"embstr")):
            return "OBJECT ENCODING of a string that Redis made by a change"
        if theirs == b"hashtable" and ours == b"listpack":
            return "OBJECT ENCODING of a hash that was larger once"
        if theirs == b"listpack" and ours == b"hashtable":
            return "OBJECT ENCODING of a hash with a value that Redis did not measure"
    if (name, sub) == (b"OBJECT", b"REFCOUNT") and ours == 1 and theirs == 2147483647:
        return "OBJECT REFCOUNT of a number that Redis shares"
    if (name, sub) == (b"OBJECT", b"IDLETIME") and isinstance(theirs, int):
        if ours == Error(b"ERR OBJECT IDLETIME is not supported: Quire does not keep when a key was read last"):
            return "OBJECT IDLETIME"
    if (name, sub) == (b"MEMORY", b"USAGE") and isinstance(ours, int) and isinstance(theirs, int):
        return "MEMORY USAGE"
    if (name, sub) == (b"COMMAND", b"COUNT") and isinstance(ours, int) and ours < theirs:
        return "COMMAND: fewer commands"
    if name == b"COMMAND" and isinstance(ours, list) and isinstance(theirs, list):
        if (len(args) == 1 or sub in (b"DOCS", b"INFO", b"LIST") and len(args) == 2) and len(ours) < len(theirs):
            return "COMMAND: fewer commands"
    if name == b"HSCAN" and isinstance(ours, list) and isinstance(theirs, list) and not takes_all(args):
        if ours[0] == b"0" != theirs[0] and len(ours[1]) >= len(theirs[1]):
            return "where an HSCAN stops"
    if name == b"SCAN" and isinstance(ours, list) and isinstance(theirs, list) and (keyspace or not takes_all(args)):
        if (ours[0] != b"0" or theirs[0] != b"0") and all(key in KEYS for key in ours[1] + theirs[1]):
            return "where a SCAN stops"
    if isinstance(ours, Error) and isinstance(theirs, Error):
        if ours.line == theirs.line.decode(errors="replace").encode():
            return "bytes that are not UTF-8 in an error line"
    if name == b"DUMP" and isinstance(ours, bytes) and isinstance(theirs, bytes):
        return "DUMP in another encoding"
    return None


KNOWN = {
    "OBJECT ENCODING of a string that Redis made by a change",
    "OBJECT ENCODING of a hash that was larger once",
    "OBJECT ENCODING of a hash with a value that Redis did not measure",
    "OBJECT REFCOUNT of a number that Redis shares",
    "OBJECT IDLETIME",
    "MEMORY USAGE",
    "DUMP in another encoding",
    "where a SCAN stops",
    "where an HSCAN stops",
    "COMMAND: fewer commands",
    "bytes that are not UTF-8 in an error line",
}


class Differences:
    """What differs, and how often what was known to."""

    def __init__(self, keyspace):
        self.keyspace = keyspace
        self.seen = collections.Counter()
        self.queued = None  # what came since MULTI

    def differs(self, args, ours, theirs, protocol):
        """Whether two replies, each as it came and as a value, say something else."""
        queued = self.follow(args, ours[1])
        if ours[0] == theirs[0]:
            return False
        if queued and isinstance(ours[1], list) and isinstance(theirs[1], list):
            if len(ours[1]) == len(theirs[1]) == len(queued):
                return any([self.one_differs(*each, protocol) for each in zip(queued, ours[1], theirs[1])])
        return self.one_differs(args, ours[1], theirs[1], protocol)

    def follow(self, args, reply):
        """The commands that EXEC carries out."""
        name = args[0].upper()
        queued = self.queued if name == b"EXEC" else None
        if name == b"MULTI" and reply == b"OK":
            self.queued = []
        elif name in (b"EXEC", b"DISCARD") and len(args) == 1:
            self.queued = None
        elif self.queued is not None and reply == b"QUEUED":
            self.queued.append(args)
        return queued

    def one_differs(self, args, ours, theirs, protocol):
        if ours == theirs or same(args, ours, theirs, protocol):
            return False
        name = known(args, ours, theirs, self.keyspace)
        self.seen[name] += 1
        return name is None


def held(server):
    """All that a server holds: type, expiry and value of each key."""
    server.send([[b"TYPE", key] for key in KEYS] + [[b"PEXPIRETIME", key] for key in KEYS])
    kinds, expiries = [[server.read()[1] for _ in KEYS] for _ in range(2)]
    read = {b"string": b"GET", b"hash": b"HGETALL", b"none": b"GET"}
    server.send([[read[kind], key] for kind, key in zip(kinds, KEYS)])
    values = [server.read()[1] for _ in KEYS]
    values = [ordered(v, True) if isinstance(v, list) else v for v in values]
    return kinds, expiries, values


def copied(source, target):
    """Moves every key from one server to keys beside it on the other by DUMP and RESTORE; what
    they hold there."""
    source.send([[b"DUMP", key] for key in KEYS])
    dumps = [(key, source.read()[1]) for key in KEYS]
    dumps = [(key, dump) for key, dump in dumps if dump is not None]
    copy = b"a copy of "
    target.send([[b"RESTORE", copy + key, b"0", dump, b"REPLACE"] for key, dump in dumps])
    for key, _ in dumps:
        reply = target.read()[1]
        assert reply == b"OK", (key, reply)
    target.send([[b"TYPE", copy + key] for key, _ in dumps])
    kinds = [target.read()[1] for _ in dumps]
    target.send([[b"GET" if kind == b"string" else b"HGETALL", copy + key] for kind, (key, _) in zip(kinds, dumps)])
    values = {key: target.read()[1] for key, _ in dumps}
    if dumps:
        target.call(b"DEL", *[copy + key for key, _ in dumps])
    return {key: ordered(v, True) if isinstance(v, list) else v for key, v in values.items()}


def check_held(redis, quire, databases):
    for database in databases[::-1]:
        for server in (redis, quire):
            assert server.call(b"SELECT", database) == b"OK"
        check_database(redis, quire)


def check_database(redis, quire):
    ours, theirs = held(quire), held(redis)
    assert ours[0] == theirs[0] and ours[2] == theirs[2], (ours, theirs)
    for key, a, b in zip(KEYS, ours[1], theirs[1]):
        assert a == b or min(a, b) > 0 and abs(a - b) < APART_S_MAX * 1000, (key, a, b)
    here = {key: value for key, value in zip(KEYS, ours[2]) if value is not None}
    for source, target in ((redis, quire), (quire, redis)):
        there = copied(source, target)
        assert there == here, [(k, there.get(k), here[k]) for k in here if there.get(k) != here[k]]


def number(quire, keyspace):
    """By which a keyspace is selected, in Redis too."""
    facts = quire.call(b"KEYSPACE", b"SHOW", keyspace.encode())
    return b"%d" % facts[facts.index(b"id") + 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--redis", type=int, required=True)
    parser.add_argument("--quire", type=int, required=True)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--differences-max", type=int, default=1)
    parser.add_argument("--keyspace", help="of several shards: nothing is sent that needs its keys in one")
    parser.add_argument("--other", required=True, help="a keyspace that COPY and MOVE go to")
    options = parser.parse_args()
    connects = [lambda port=port: Server(port) for port in (options.redis, options.quire)]
    wrong, asked = server_commands.check(*connects)
    wrong += command_docs.check(*connects)
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{asked} commands to the node itself")
    redis, quire = Server(options.redis), Server(options.quire)
    databases = [number(quire, options.keyspace) if options.keyspace else b"0", number(quire, options.other)]
    for server in (redis, quire):
        assert server.call(b"SELECT", databases[0]) == b"OK"
    generator = Generator(random.Random(options.seed), databases)
    for server in (redis, quire):
        server.call(b"FLUSHALL")
    begun, sent, differences = time.monotonic(), 0, 0
    compared, by_name = Differences(options.keyspace), collections.Counter()
    batches = 0
    while sent < options.commands:
        protocol = 2 + batches % 2
        for server in (redis, quire):
            server.call(b"HELLO", b"%d" % protocol)
        batch = []
        while len(batch) < BATCH:
            if not options.keyspace and generator.chance(0.03):
                batch += generator.transaction()
                continue
            args = generator.command()
            if not options.keyspace or args[0].upper() not in WHOLE:
                batch += [args] + looks(args)
        redis.send(batch)
        quire.send(batch)
        for n, args in enumerate(batch):
            theirs, ours = redis.read(), quire.read()
            by_name[args[0].upper()] += 1
            if compared.differs(args, ours, theirs, protocol):
                differences += 1
                print(f"seed {options.seed}, command {sent + n}, RESP{protocol}: {args}\n"
                      f"  redis {theirs[0][:300]}\n  quire {ours[0][:300]}", flush=True)
                if differences >= options.differences_max:
                    sys.exit(1)
        sent += len(batch)
        batches += 1
        try:
            check_held(redis, quire, databases)
        except AssertionError as error:
            sys.exit(f"seed {options.seed}, after command {sent}, what is held: {error}")
    took = time.monotonic() - begun
    print(f"{sent} commands of {len(by_name)} names in {took:.0f} s, {batches} comparisons of all that is held")
    for name in sorted(KNOWN):
        print(f"  {compared.seen[name]:>8}  {name}")
    unseen = [name for name in KNOWN if not compared.seen[name]]
    if unseen or differences:
        print(f"{differences} differences; known, but not seen: {unseen}")
        sys.exit(1)


main()
