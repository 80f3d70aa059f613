"""Random commands of every family that Quire has: mostly right, some with wrong options, types,
numbers or arity. All from one random source, so that a seed names a sequence.

Nothing here depends on the time by less than a day, except what is over already.
"""

KEYS = [b"k%d" % n for n in range(9)] + [b"{k1}a", b"", b"\x00\xff\r\n", b"key with space"]
FIELDS = [b"f%d" % n for n in range(7)] + [b"", b"1", b"\xfe\x00"]
NUMBERS = [b"0", b"1", b"-1", b"5", b"10", b"-37", b"9223372036854775807", b"-9223372036854775808",
           b"9223372036854775806", b"9223372036854775808", b"007", b"+1", b"-0", b"", b" 1", b"1.5",
           b"1e3", b"abc"]
FLOATS = [b"0", b"1", b"-1", b"0.1", b"0.2", b"-0.3", b"1.5", b"3.14159265358979323846", b"1e3", b"-2.5e-3",
          b"10.50", b"5.0e3", b"123456789.987654321", b"1e17", b"1e-17", b"1e-5", b"1e30"]
ODD_FLOATS = [b"inf", b"-inf", b"+Infinity", b"nan", b"1e4932", b"-1e4932", b"1e5000", b"1e-4951", b"1e-5000",
              b"0x1p4", b"0x.8", b"0x", b"+7", b".5", b"5.", b".", b"1e", b"1e+", b" 1", b"1 ", b"", b"abc",
              b"1.1.1", b"--1", b"1e400", b"-0", b"-0.0", b"9223372036854775807", b"1_0"]
TEXTS = [b"", b"hello", b"v", b"a longer value with spaces", b"\x00\x01\xff", b"x" * 70, b"\xff\xff",
         b"ohmytext", b"mynewtext", b"abcabcabcabc" * 9]
PATTERNS = [b"*", b"k*", b"k[1-4]", b"k[^1-4]", b"?", b"??", b"*a*", b"[", b"k\\1", b"**", b"", b"k[4-2",
            b"{*}*", b"f*", b"*1"]
TIMES = [b"0", b"-1", b"-5", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775",
         b"-9223372036854775", b"abc", b"", b"1.0"]
OFFSETS = [b"-1", b"4294967296", b"4294967295x", b"x", b"", b"1.0", b"9223372036854775807",
           b"-9223372036854775808"]
BITFIELD_TYPES = [b"u1", b"u8", b"i8", b"u16", b"i16", b"i5", b"u63", b"i64", b"u2", b"i32"]
ODD_TYPES = [b"u0", b"u64", b"i65", b"i0", b"8", b"u", b"", b"x8", b"U8", b"u-1", b"u08"]


class Generator:
    def __init__(self, random, databases):
        """`databases`: the numbers of the one that is selected, and of another."""
        self.random, self.databases = random, databases
        self.pick = random.choice
        self.weights = [w for w, _ in self.table()]
        self.makers = [m for _, m in self.table()]

    def chance(self, p):
        return self.random.random() < p

    def command(self):
        args = self.random.choices(self.makers, self.weights)[0]()
        if b"-9223372036854775807" in args:
            return args  # One word less, and Redis would reply for ever.
        if self.chance(0.03) and len(args) > 1:
            args.pop()
        elif self.chance(0.02) and args[-1].upper() not in (b"PX", b"EX"):
            # (Behind one of these it could be a time that is over in a moment.)
            args.append(self.value())
        if self.chance(0.2):
            args[0] = args[0].lower()
        return args

    def transaction(self):
        """From WATCH, or MULTI, to EXEC. What is written between the two is certain to be a change."""
        lines = []
        if self.chance(0.4):
            lines.append([b"WATCH"] + [self.key() for _ in range(self.random.randint(1, 3))])
            if self.chance(0.4):
                lines.append([b"SET", self.key(), b"%d" % self.random.getrandbits(40)])
            if self.chance(0.1):
                lines.append([b"UNWATCH"])
        lines.append([b"MULTI"])
        while self.chance(0.75):
            args = self.command()
            # What asks no shard, or all of them, Quire does not take there; and what Redis has queued
            # counts as a reference to it.
            no = args[0].upper() in (b"COMMAND", b"FLUSHALL") or args[1:2] and args[1].upper() == b"REFCOUNT"
            no = no or self.goes_elsewhere(args)
            lines += [[b"PING"]] if no else [args] + looks(args)
        if self.chance(0.03):
            lines.append(self.pick([[b"MULTI"], [b"WATCH", b"k1"], [b"EXEC", b"x"], [b"NOSUCH"], [b"UNWATCH"]]))
        lines.append(self.pick([[b"EXEC"]] * 9 + [[b"DISCARD"]]))
        return lines

    # ---- arguments ---------------------------------------------------------------------

    def key(self):
        return self.pick(KEYS)

    def field(self):
        return self.pick(FIELDS)

    def number(self):
        return self.pick(NUMBERS[:6]) if self.chance(0.7) else self.pick(NUMBERS)

    def float(self):
        if self.chance(0.4):
            return b"%.*f" % (self.random.randint(0, 19), self.random.uniform(-1000, 1000))
        return self.pick(FLOATS) if self.chance(0.8) else self.pick(ODD_FLOATS)

    def value(self):
        if self.chance(0.1):
            return self.float()
        return self.number() if self.chance(0.55) else self.pick(TEXTS)

    def small(self):
        """An index into a string, or something worse."""
        if self.chance(0.9):
            return b"%d" % self.random.randint(-12, 20)
        return self.pick(NUMBERS)

    def database(self):
        return self.pick([*self.databases, self.databases[1], b"x"])

    def goes_elsewhere(self, args):
        return args[0].upper() == b"MOVE" or args[0].upper() == b"COPY" and self.databases[1] in args[3:]

    def offset(self, most):
        return b"%d" % self.random.randint(0, most) if self.chance(0.93) else self.pick(OFFSETS)

    def time(self, unit):
        """So far apart that a moment more or less never decides between two of them."""
        return b"%d" % (self.random.randint(10**6, 10**9) * unit) if self.chance(0.8) else self.pick(TIMES)

    def restore_time(self):
        """Not the greatest: Redis adds the time now to it and gets one that is over."""
        time = self.time(1000)
        return b"0" if self.chance(0.6) or time == TIMES[3] else time

    def time_at(self, unit):
        if self.chance(0.8):
            return b"%d" % (self.random.randint(10**10, 10**12) * unit)
        return self.pick(TIMES + [b"1000", b"1"])

    def several(self, what):
        return [what() for _ in range(self.random.randint(1, 4))]

    def pairs(self, first, most):
        return [x for _ in range(self.random.randint(1, most)) for x in (first(), self.value())]

    def some(self, choices, most):
        """A few of `choices`, each a list of words made anew."""
        return [x for _ in range(self.random.randint(0, most)) for x in self.pick(choices)()]

    def word(self, *words):
        return lambda: [self.pick(words)]

    # ---- options -----------------------------------------------------------------------

    def times(self):
        return [
            lambda: [self.pick([b"EX", b"ex"]), self.time(1)],
            lambda: [self.pick([b"PX", b"px"]), self.time(1000)],
            lambda: [b"EXAT", self.time_at(1)],
            lambda: [b"pxat", self.time_at(1000)],
        ]

    def set_options(self):
        return self.some(
            self.times() + [self.word(b"NX"), self.word(b"XX"), self.word(b"GET", b"get"),
                            self.word(b"KEEPTTL", b"keepttl"), self.word(b"PX", b"bogus", b"PERSIST")],
            self.pick([0, 0, 0, 1, 1, 2, 3]))

    def getex_options(self):
        return self.some(self.times() + [self.word(b"PERSIST", b"persist"), self.word(b"EX", b"KEEPTTL", b"NX")],
                         self.pick([0, 1, 1, 1, 2]))

    def expire_options(self):
        words = [b"NX", b"XX", b"GT", b"LT", b"gt", b"lt", b"bogus"]
        return [self.pick(words) for _ in range(self.pick([0, 0, 1, 1, 1, 2]))]

    def scan_options(self, of_keys):
        odd = [lambda: [b"COUNT", self.pick([b"0", b"-1", b"x"])], lambda: [b"bogus", b"1"], self.word(b"COUNT")]
        kinds = [lambda: [b"TYPE", self.pick([b"string", b"HASH", b"set"])]] if of_keys or self.chance(0.1) else []
        right = [lambda: [b"MATCH", self.pick(PATTERNS)], lambda: [self.pick([b"COUNT", b"count"]), b"1000"]]
        return self.some(2 * right + kinds + odd, 3)

    def range_unit(self):
        return self.pick([[], [], [b"BIT"], [b"bit"], [b"BYTE"], [b"bogus"]])

    def lcs_options(self):
        return self.some([self.word(b"LEN"), self.word(b"IDX", b"idx"), self.word(b"WITHMATCHLEN"),
                          lambda: [b"MINMATCHLEN", self.small()], self.word(b"bogus", b"MINMATCHLEN")],
                         self.pick([0, 1, 2, 3]))

    def bitfield_steps(self, most):
        kind = lambda: self.pick(BITFIELD_TYPES) if self.chance(0.93) else self.pick(ODD_TYPES)
        at = lambda: (b"#" if self.chance(0.3) else b"") + self.offset(90)
        return self.some([
            lambda: [self.pick([b"GET", b"get"]), kind(), at()],
            lambda: [b"SET", kind(), at(), self.number()],
            lambda: [b"INCRBY", kind(), at(), self.number()],
            lambda: [b"INCRBY", kind(), at(), b"%d" % self.random.randint(-300, 300)],
            lambda: [b"OVERFLOW", self.pick([b"WRAP", b"SAT", b"FAIL", b"sat", b"fail", b"bogus"])],
            self.word(b"GET", b"bogus"),
        ], most)

    def payload(self):
        return self.pick(PAYLOADS) if self.chance(0.9) else self.pick([b"", b"x", PAYLOADS[0][:-1], b"y" * 30])

    # ---- commands ----------------------------------------------------------------------

    def table(self):
        g, pick = self, self.pick
        key, field, number, value = self.key, self.field, self.number, self.value
        return [
            (4, lambda: [b"GET", key()]),
            (8, lambda: [b"SET", key(), value()] + g.set_options()),
            (2, lambda: [b"SETEX", key(), g.time(1), value()]),
            (2, lambda: [b"PSETEX", key(), g.time(1000), value()]),
            (3, lambda: [b"GETEX", key()] + g.getex_options()),
            (2, lambda: [b"MGET"] + g.several(key)),
            (2, lambda: [b"MSET"] + g.pairs(key, 3)),
            (2, lambda: [b"MSETNX"] + g.pairs(key, 2)),
            (2, lambda: [b"SETNX", key(), value()]),
            (2, lambda: [b"GETSET", key(), value()]),
            (2, lambda: [b"GETDEL", key()]),
            (3, lambda: [b"INCR", key()]),
            (2, lambda: [b"INCRBY", key(), number()]),
            (2, lambda: [b"DECR", key()]),
            (2, lambda: [b"DECRBY", key(), number()]),
            (4, lambda: [b"INCRBYFLOAT", key(), g.float()]),
            (2, lambda: [b"APPEND", key(), value()]),
            (2, lambda: [b"STRLEN", key()]),
            (3, lambda: [b"SETRANGE", key(), g.offset(80), value()]),
            (3, lambda: [pick([b"GETRANGE", b"SUBSTR"]), key(), g.small(), g.small()]),
            (3, lambda: [b"LCS", key(), key()] + g.lcs_options()),
            (3, lambda: [b"SETBIT", key(), g.offset(300), pick([b"0", b"1", b"1", b"2", b"x"])]),
            (2, lambda: [b"GETBIT", key(), g.offset(300)]),
            (3, lambda: [b"BITCOUNT", key()] + pick([[], [g.small(), g.small()] + g.range_unit(), [g.small()]])),
            (3, lambda: [b"BITPOS", key(), pick([b"0", b"1", b"1", b"2", b"x"])] + pick(
                [[], [g.small()], [g.small(), g.small()] + g.range_unit()])),
            (3, lambda: [b"BITOP", pick([b"AND", b"OR", b"xor", b"NOT", b"bogus"]), key()] + (
                [key()] if g.chance(0.3) else g.several(key))),
            (5, lambda: [b"BITFIELD", key()] + g.bitfield_steps(4)),
            (1, lambda: [b"BITFIELD_RO", key()] + g.bitfield_steps(2)),

            (8, lambda: [b"HSET", key()] + g.pairs(field, 4)),
            (0.5, lambda: [b"HSET", key()] + [x for n in range(70) for x in (b"big%d" % n, pick([b"1", b"x" * 70]))]),
            (2, lambda: [b"HMSET", key()] + g.pairs(field, 3)),
            (3, lambda: [b"HGET", key(), field()]),
            (2, lambda: [b"HMGET", key()] + g.several(field)),
            (2, lambda: [b"HGETALL", key()]),
            (4, lambda: [b"HDEL", key()] + g.several(field)),
            (1, lambda: [b"HDEL", key()] + FIELDS),
            (2, lambda: [b"HEXISTS", key(), field()]),
            (3, lambda: [b"HLEN", key()]),
            (2, lambda: [b"HSTRLEN", key(), field()]),
            (1, lambda: [b"HKEYS", key()]),
            (1, lambda: [b"HVALS", key()]),
            (3, lambda: [b"HINCRBY", key(), field(), number()]),
            (4, lambda: [b"HINCRBYFLOAT", key(), field(), g.float()]),
            (2, lambda: [b"HSETNX", key(), field(), value()]),
            (3, lambda: [b"HSCAN", key(), pick([b"0", b"0", b"0", b"", b"x", b"1x"])] + g.scan_options(False)),
            (3, lambda: [b"HRANDFIELD", key()] + pick(
                [[], [g.small()], [g.small(), b"WITHVALUES"], [b"1000", b"withvalues"], [number(), b"WITHVALUES"],
                 [b"3", b"bogus"], [b"-9223372036854775807", b"withvalues"], [b"-9223372036854775808"]])),

            (4, lambda: [b"DEL"] + g.several(key)),
            (2, lambda: [b"UNLINK"] + g.several(key)),
            (2, lambda: [b"EXISTS"] + g.several(key)),
            (1, lambda: [b"TOUCH"] + g.several(key)),
            (2, lambda: [b"TYPE", key()]),
            (3, lambda: [b"RENAME", key(), key()]),
            (2, lambda: [b"RENAMENX", key(), key()]),
            (4, lambda: [b"COPY", key(), key()] + g.some(
                [self.word(b"REPLACE", b"replace"), self.word(b"bogus"), lambda: [b"DB", g.database()]],
                pick([0, 1, 1, 2]))),
            (3, lambda: [b"MOVE", key(), g.database()]),
            (4, lambda: [b"EXPIRE", key(), g.time(1)] + g.expire_options()),
            (4, lambda: [b"PEXPIRE", key(), g.time(1000)] + g.expire_options()),
            (3, lambda: [b"EXPIREAT", key(), g.time_at(1)] + g.expire_options()),
            (3, lambda: [b"PEXPIREAT", key(), g.time_at(1000)] + g.expire_options()),
            (3, lambda: [pick([b"TTL", b"PTTL"]), key()]),
            (3, lambda: [pick([b"EXPIRETIME", b"PEXPIRETIME"]), key()]),
            (3, lambda: [b"PERSIST", key()]),
            (3, lambda: [b"SCAN", pick([b"0", b"0", b"0", b"", b"x", b"1x"])] + g.scan_options(True)),
            (2, lambda: [b"KEYS", pick(PATTERNS)]),
            (1, lambda: [b"RANDOMKEY"]),
            (2, lambda: [b"DBSIZE"]),
            (0.2, lambda: [pick([b"FLUSHDB", b"FLUSHALL"])] + pick(
                [[], [b"ASYNC"], [b"sync"], [b"bogus"], [b"sync", b"async"]])),
            (2, lambda: [b"OBJECT", pick([b"ENCODING", b"encoding", b"REFCOUNT", b"FREQ", b"IDLETIME"]), key()]),
            (0.3, lambda: [b"OBJECT"] + pick([[b"bogus", key()], [b"ENCODING"], [b"FREQ", key(), key()], []])),
            (1, lambda: [b"MEMORY", b"USAGE", key()] + pick(
                [[], [], [b"SAMPLES", number()], [b"samples"], [b"bogus", b"1"]])),
            (1, lambda: [b"DUMP", key()]),
            (4, lambda: [b"RESTORE", key(), g.restore_time(), g.payload()] + g.some(
                [self.word(b"REPLACE", b"replace"), self.word(b"REPLACE"), self.word(b"ABSTTL"),
                 lambda: [b"IDLETIME", number()], lambda: [b"FREQ", pick([b"0", b"255", b"256", b"-1", b"x"])],
                 self.word(b"bogus", b"FREQ")], pick([0, 1, 1, 2, 3]))),

            (0.5, lambda: [pick([b"NOPE", b"gett", b"", b"a\r\nb"])] + g.several(value)),
            (0.5, lambda: [b"COMMAND", b"GETKEYS"] + pick([
                [b"GET", b"a"], [b"MSET", b"a", b"1", b"b", b"2"], [b"DEL", b"a", b"b", b"c"], [b"DBSIZE", b"a"],
                [b"GET", b"a", b"b"], [b"NOPE", b"a"], [b"GET"], [], [b"OBJECT", b"ENCODING", b"a"],
                [b"BITOP", b"AND", b"a", b"b", b"c"], [b"RENAME", b"a", b"b"], [b"OBJECT", b"bogus", b"a"]])),
            (0.2, lambda: [b"COMMAND"] + pick([
                [b"BOGUS"], [b"COUNT", b"x"], [b"INFO", b"nope"], [b"DOCS", b"nope"], [b"DOCS", b"get", b"nope"],
                [b"LIST", b"x"],
                [b"LIST", b"FILTERBY", b"ACLCAT", b"nope"], [b"LIST", b"FILTERBY", b"MODULE", b"x"]])),
        ]


def looks(args):
    """Commands to send behind `args`: Redis keeps what was set and is over already until somebody
    looks for it, Quire does not keep it at all."""
    name = args[0].upper()
    if name in (b"SET", b"GETEX", b"RESTORE", b"EXPIREAT", b"PEXPIREAT", b"EXPIRE", b"PEXPIRE") and len(args) > 2:
        if any(a in TIMES or a in (b"1000", b"1") for a in args[2:]):
            return [[b"EXISTS", args[1]]]
    return []


# DUMPs of redis-server 7.0.15 (and, where it says so, of payloads that older ones wrote).
from payloads import PAYLOADS  # noqa: E402
