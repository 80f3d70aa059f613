"""What a node answers without a shard: once each, in both protocols.

`SAME` must be as in Redis, byte for byte, when both time nothing; `REFUSED` begins with what Quire
answers where Redis does something else.
"""

import shlex

TIMES_NOTHING = ["CONFIG SET slowlog-log-slower-than -1 latency-monitor-threshold 0 latency-tracking no",
                 "SLOWLOG RESET", "CONFIG RESETSTAT"]

SAME = """
    PING|PING x|PING x y|ECHO a|ECHO
    CLIENT|CLIENT bogus|CLIENT ID x|CLIENT GETNAME|CLIENT SETNAME ada|CLIENT GETNAME|CLIENT SETNAME "a b"|CLIENT SETNAME
    CLIENT NO-EVICT ON|CLIENT NO-EVICT bogus|CLIENT NO-EVICT|CLIENT REPLY ON|CLIENT TRACKING OFF|CLIENT TRACKINGINFO
    CLIENT GETREDIR|CLIENT CACHING YES|CLIENT UNBLOCK 123456|CLIENT UNBLOCK x|CLIENT LIST ID x|CLIENT LIST TYPE bogus
    CLIENT LIST bogus|CLIENT LIST TYPE pubsub|CLIENT KILL 1.2.3.4:5|CLIENT KILL ID 0|CLIENT KILL ID x
    CLIENT KILL ID 123456|CLIENT KILL ADDR 1.2.3.4:5|CLIENT KILL TYPE bogus|CLIENT KILL USER nobody
    CLIENT KILL SKIPME bogus|CLIENT KILL ID 123456 SKIPME yes|CLIENT KILL bogus 1|CLIENT KILL ADDR 1:1 ID|CLIENT KILL
    CONFIG|CONFIG bogus|CONFIG GET|CONFIG GET nope|CONFIG GET slowlog-log-slower-than|CONFIG GET MAXMEMORY
    CONFIG GET hash-max-listpack-e*|CONFIG GET hash-max-listpack-v*|CONFIG SET|CONFIG SET a|CONFIG SET nope x|CONFIG SET maxmemory 0
    CONFIG SET maxmemory 0 timeout|CONFIG SET maxmemory-policy noeviction timeout 0|CONFIG RESETSTAT|CONFIG RESETSTAT x
    SLOWLOG|SLOWLOG bogus|SLOWLOG LEN|SLOWLOG GET|SLOWLOG GET 10|SLOWLOG GET -1|SLOWLOG GET -2|SLOWLOG GET x
    SLOWLOG GET 1 2|SLOWLOG RESET|SLOWLOG RESET x|SLOWLOG HELP x|CONFIG SET slowlog-log-slower-than x
    CONFIG SET slowlog-log-slower-than -2|CONFIG SET slowlog-log-slower-than 1000000|CONFIG GET slowlog-log-slower-than
    CONFIG SET slowlog-max-len x|CONFIG SET slowlog-max-len 5|CONFIG GET slowlog-max-len|CONFIG SET slowlog-max-len 128 slowlog-log-slower-than -1
    LATENCY|LATENCY bogus|LATENCY LATEST|LATENCY HISTORY command|LATENCY RESET|LATENCY RESET command|LATENCY DOCTOR
    LATENCY GRAPH command|LATENCY HISTORY|LATENCY HISTOGRAM|LATENCY HISTOGRAM get|CONFIG SET latency-monitor-threshold x
    CONFIG SET latency-monitor-threshold -1|CONFIG SET latency-monitor-threshold 1000000|CONFIG GET latency-monitor-threshold
    LATENCY LATEST|LATENCY HISTORY command|LATENCY RESET|LATENCY GRAPH command|CONFIG SET latency-monitor-threshold 0
    DEBUG|DEBUG SLEEP 0|DEBUG SLEEP 0.02|DEBUG SLEEP x|DEBUG bogus|DEBUG SLEEP
    EXEC|DISCARD|UNWATCH|MULTI|MULTI|WATCH k|PING|ECHO x|PING a b|EXEC x|EXEC|MULTI|PING|ECHO x|EXEC|MULTI|EXEC
    MULTI|SET k v|DISCARD|WATCH|MULTI x|WATCH k|MULTI|EXEC|MULTI|NOSUCH|EXEC|MULTI|GET|DISCARD|MULTI|RESET|EXEC
    CLIENT PAUSE x|CLIENT PAUSE -1|CLIENT PAUSE 0|CLIENT PAUSE 1 BOGUS|CLIENT PAUSE 1 ALL x|CLIENT PAUSE 1 write|CLIENT UNPAUSE
    CLIENT UNPAUSE x|CLIENT REPLY bogus|CLIENT REPLY ON x|CLIENT UNBLOCK 1 WRONG|CLIENT UNBLOCK x ERROR|CLIENT UNBLOCK 1 error
    CLIENT UNBLOCK 1 ERROR x|WAIT -1 0|WAIT x 0|WAIT 0 -1|WAIT 0 x|AUTH x|AUTH default x|AUTH other x|AUTH a b c|AUTH default
    HELLO 2 AUTH default|HELLO 2 AUTH other x|SAVE|SAVE x|BGSAVE x|LASTSAVE x|BGREWRITEAOF x|MEMORY STATS x|MOVE k 0|MOVE k x|INFO nosuch
    MOVE k 99999999999|MOVE k 00|MOVE k|COPY k l DB x|COPY k l DB 99999999999|COPY k l DB|COPY k l BOGUS DB 99|COPY k k DB 0|COPY k k DB 00
    CONFIG SET timeout 0 timeout 0|CONFIG SET timeout 0 TIMEOUT 0|CONFIG SET Timeout x|CONFIG SET timeout -1|CONFIG SET nope 1 nope 1
    CONFIG SET latency-tracking x|CONFIG GET timeout TIMEOUT|CONFIG GET requirepass|CONFIG GET tcp-keepalive|CONFIG GET unixsocke?
    COMMAND GETKEYSANDFLAGS|COMMAND GETKEYSANDFLAGS PING x|COMMAND GETKEYSANDFLAGS nosuch x|COMMAND GETKEYSANDFLAGS GET a
    COMMAND GETKEYSANDFLAGS SET a b|COMMAND GETKEYSANDFLAGS SET a b get|COMMAND GETKEYSANDFLAGS MSET a b c d
    COMMAND GETKEYSANDFLAGS MSET a|COMMAND GETKEYSANDFLAGS RENAME a b|COMMAND GETKEYSANDFLAGS BITFIELD a GET u8 0
    COMMAND GETKEYSANDFLAGS BITFIELD a OVERFLOW WRAP SET u8 0 1|COMMAND GETKEYSANDFLAGS BITFIELD a GET u8|COMMAND GETKEYSANDFLAGS OBJECT ENCODING x
    COMMAND INFO auth monitor save bgsave lastsave bgrewriteaof move|COMMAND INFO multi exec discard watch unwatch|OBJECT|OBJECT bogus x|MEMORY|MEMORY bogus|MEMORY USAGE|SWAPDB 0|SWAPDB 0 1 2
    CLUSTER|CLUSTER bogus|CLUSTER SLOTS|CLUSTER SHARDS|CLUSTER NODES|CLUSTER INFO|CLUSTER MYID|CLUSTER KEYSLOT k|CLUSTER HELP
    CLUSTER SLOTS x|CLUSTER KEYSLOT|CLUSTER MEET a|CLUSTER RESET|CLUSTER RESET HARD x|QUIT x y
""".replace("\n", "|").split("|")

REFUSED = {
    "SWAPDB 0 1": b"-ERR SWAPDB is not supported: ",
    "CONFIG REWRITE": b"-ERR CONFIG REWRITE is not supported: ",
    "CONFIG SET maxmemory 1":
        b"-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - can't set immutable config",
    "CLIENT TRACKING ON": b"-ERR CLIENT TRACKING is not supported",
    "DEBUG OBJECT k": b"-ERR unknown subcommand or wrong number of arguments for 'OBJECT'. Try DEBUG HELP.",
    "MEMORY DOCTOR": b"-ERR unknown subcommand 'DOCTOR'. Try MEMORY HELP.",
    "MULTI": b"+OK",
    "INFO": b"-ERR 'info' can't be part of a transaction",
    "FLUSHALL": b"-CROSSSLOT 'flushall' asks several shards",
    "MOVE k 1": b"-CROSSSLOT 'move' goes to another shard, and a transaction has one",
    "COPY k k DB 1": b"-CROSSSLOT 'copy' goes to another shard, and a transaction has one",
    "EXEC": b"-EXECABORT",
    "MOVE k 99": b"-ERR DB index is out of range: there is no keyspace of this number",
    "COPY k l DB 99 BOGUS": b"-ERR DB index is out of range: there is no keyspace of this number",
}

# What calls, fails and is rejected is counted as in Redis: these by one connection, one by one.
COUNTED = """
    SET k v|GET|GET a b|GET k|HGET k f|HGET k|INCR k|SETRANGE k -1 x|HSET h f|HSET h a b c|HSET h a b|NOSUCH x|nosuch
    CLUSTER SLOTS|CLUSTER|CLUSTER bogus|CLUSTER KEYSLOT|CONFIG GET|CONFIG SET nope x|CONFIG bogus|OBJECT ENCODING|OBJECT ENCODING k
    EXEC|EXEC x|DISCARD|MULTI|MULTI|MULTI x|EXEC|MULTI|NOSUCH|EXEC|MULTI|DISCARD x|EXEC|SELECT|WATCH|AUTH|AUTH a b
    CLIENT|CLIENT bogus|CLIENT KILL ID x|CLIENT REPLY bogus|WAIT x 0|PING a b|ECHO|DEL h|DEL|COPY k|MSET a
""".replace("\n", "|").split("|")


def counts(server):
    """Of every command that was called or rejected: calls, rejected and failed; errors by code."""
    found = {}
    for section in (b"commandstats", b"errorstats"):
        server.send([[b"INFO", section]])
        for line in server.read()[0].decode().split("\r\n"):
            name, _, value = line.partition(":")
            if name.startswith(("cmdstat_", "errorstat_")):
                found[name] = [pair for pair in value.split(",") if not pair.startswith("usec")]
    # What begins and ends the counting is not counted alike: it is still going on.
    for name in ("cmdstat_info", "cmdstat_config|resetstat"):
        found.pop(name, None)
    return found


def words(line):
    return [word.encode() for word in shlex.split(line)]


def check(connect_redis, connect_quire):
    """Returns what differs, as lines."""
    wrong = []
    lines = [line.strip() for line in SAME if line.strip()]
    for protocol in (b"2", b"3"):
        redis, quire = connect_redis(), connect_quire()
        for server in (redis, quire):
            server.call(b"HELLO", protocol)
            for line in TIMES_NOTHING:
                server.call(*words(line))
        for line in lines:
            for server in (redis, quire):
                server.send([words(line)])
            theirs, ours = redis.read()[0], quire.read()[0]
            if theirs != ours:
                wrong.append(f"RESP{protocol.decode()}: {line}\n  redis {theirs[:300]}\n  quire {ours[:300]}")
        quire = connect_quire()
        for line, expected in REFUSED.items():
            quire.send([words(line)])
            ours = quire.read()[0]
            if not ours.startswith(expected):
                wrong.append(f"{line}\n  quire {ours[:300]}")
    both = []
    for server in (connect_redis(), connect_quire()):
        server.call(b"CONFIG", b"RESETSTAT")
        for line in COUNTED:
            if line.strip():
                server.send([words(line.strip())])
                server.read()
        both.append(counts(server))
    for name in sorted(both[0].keys() | both[1].keys()):
        theirs, ours = (found.get(name) for found in both)
        if theirs != ours:
            wrong.append(f"counts of {name}\n  redis {theirs}\n  quire {ours}")
    # A sleep holds up its own connection alone.
    sleeper, other = connect_quire(), connect_quire()
    sleeper.send([words("DEBUG SLEEP 1000"), words("PING")])
    if other.call(b"PING") != b"PONG":
        wrong.append("DEBUG SLEEP holds up others")
    return wrong, 2 * len(lines) + len(REFUSED)
