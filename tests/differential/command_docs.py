"""COMMAND DOCS: what a command takes is said as Redis says it."""

# Where it is not the same, and why.
DIFFERENT = {
    "select": "keyspaces have names too",
    "move": "keyspaces have names too",
    "copy": "keyspaces have names too",
    "client|tracking": "OFF is all that is taken",
    "client|caching": "refused whatever follows",
    "latency|graph": "refused whatever follows",
    "swapdb": "refused whatever follows",
    "command|getkeys": "Redis 7.0 does not say that a command follows",
    "command|getkeysandflags": "Redis 7.0 does not say that a command follows",
    "debug": "Redis says nothing of it",
}
# No Redis Cluster: refused whatever follows.
REFUSED = "cluster|"
# Of an argument, what only Redis says.
NOT_SAID = (b"since", b"deprecated_since", b"summary")


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def argument(flat):
    said = {name: value for name, value in pairs(flat).items() if name not in NOT_SAID}
    if b"arguments" in said:
        said[b"arguments"] = [argument(part) for part in said[b"arguments"]]
    return said


def taken(docs):
    """Of each command and subcommand: its arguments."""
    found = {}
    for name, doc in pairs(docs).items():
        doc = pairs(doc)
        found[name.decode()] = [argument(each) for each in doc.get(b"arguments", [])]
        found |= taken(doc.get(b"subcommands", []))
    return found


def check(connect_redis, connect_quire):
    """Returns what differs, as lines."""
    wrong = []
    for protocol in (b"2", b"3"):
        both = []
        for server in (connect_redis(), connect_quire()):
            server.call(b"HELLO", protocol)
            both.append(taken(server.call(b"COMMAND", b"DOCS")))
        theirs, ours = both
        common = [name for name in ours if name in theirs and not name.startswith(REFUSED)]
        if len(common) < 150:
            wrong.append(f"only {len(common)} commands are in both")
        for name in common:
            if (ours[name] == theirs[name]) == (name in DIFFERENT):
                wrong.append(f"what {name} takes\n  redis {theirs[name]}\n  quire {ours[name]}")
        wrong += [f"{name} is not there" for name in DIFFERENT if name not in common]
    return wrong
