#!/usr/bin/env python3
"""Makes the snapshots beside it with the redis-server in the PATH (7.0.15 made those that are
here), and expected.json: what redis-server itself says that they hold.

    python3 crates/transfer/testdata/make.py
"""

import json
import pathlib
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PORT = 16999
YEAR_2100_MS = 4102444800123

SERVERS = {
    # Listpacks and LZF where Redis would use them.
    "default": [],
    # Nothing packed, no hash in a listpack.
    "plain": ["--rdbcompression", "no", "--hash-max-listpack-entries", "0"],
    # Every hash in a listpack, whose numbers are of all sizes then.
    "wide": ["--hash-max-listpack-entries", "100000", "--hash-max-listpack-value", "100000"],
    # No checksum.
    "unsummed": ["--rdbchecksum", "no"],
}

NUMBERS = [0, 1, -1, 12, 13, 63, 127, 128, -128, -129, 4095, 4096, -4096, -4097, 32767, 32768, -32768,
           -32769, 8388607, 8388608, -8388608, -8388609, 2147483647, 2147483648, -2147483648, -2147483649,
           9223372036854775807, -9223372036854775808]
TEXTS = ["", "a", "+1", "007", "-0", "x" * 62, "x" * 63, "x" * 64, "ab" * 500, "y" * 4095, "z" * 4096,
         "".join(chr(32 + n * 7 % 90) for n in range(1000)), "\x00\r\n\xff", "9" * 30]


def commands():
    for n, value in enumerate([str(n) for n in NUMBERS] + TEXTS):
        yield "SET", f"string:{n}", value
        if len(value) < 100:
            yield "HSET", f"hash:one:{n}", "field", value, value or "empty", "x"
    yield "HSET", "hash:numbers", *[word for n in NUMBERS for word in (f"f{n}", str(n))]
    yield "HSET", "hash:texts", *[word for n, text in enumerate(TEXTS) for word in (f"f{n}", text)]
    yield "HSET", "hash:many", *[word for n in range(300) for word in (f"field{n}", f"value{n % 7}" * (n % 5))]
    yield "SET", "", "the empty key"
    yield "SET", "k" * 300, "a long key"
    yield "SET", "binary\x00\xff\r\n", "v"
    yield "SET", "lasting:string", "v", "PXAT", str(YEAR_2100_MS)
    yield "HSET", "lasting:hash", "f", "v"
    yield "PEXPIREAT", "lasting:hash", str(YEAR_2100_MS + 1)
    # What Quire has no type for.
    yield "RPUSH", "list", *[f"element{n}" for n in range(200)], "e" * 9000
    yield "RPUSH", "list:small", "1", "b"
    yield "SADD", "set:numbers", "1", "2", "3"
    yield "SADD", "set", *[f"member{n}" for n in range(200)]
    yield "ZADD", "zset", "1.5", "a", "-inf", "b", "inf", "c"
    yield "ZADD", "zset:large", *[word for n in range(200) for word in (str(n / 3), f"member{n}")]
    for n in range(30):
        yield "XADD", "stream", f"{n + 1}-1", "field", f"value{n}"
    yield "XGROUP", "CREATE", "stream", "group", "0"
    yield "XREADGROUP", "GROUP", "group", "consumer", "COUNT", "5", "STREAMS", "stream", ">"
    yield "XDEL", "stream", "3-1"
    yield "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    yield "SELECT", "3"
    yield "SET", "in database 3", "v"


def encoded(command):
    words = [word.encode("latin-1") for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def cli(*words):
    done = subprocess.run(["redis-cli", "-p", str(PORT), *words], capture_output=True, check=True)
    return done.stdout.decode("latin-1").rstrip("\n")


def expected():
    """Keys of database 0, in hexadecimal digits: what they hold and when they expire."""
    code = """
    local function hex(s) return (s:gsub('.', function(c) return string.format('%02x', c:byte()) end)) end
    local out = {}
    for _, key in ipairs(redis.call('KEYS', '*')) do
      local kind, value = redis.call('TYPE', key).ok, nil
      if kind == 'string' then value = hex(redis.call('GET', key))
      elseif kind == 'hash' then
        value = {}
        local flat = redis.call('HGETALL', key)
        for n = 1, #flat, 2 do value['f' .. hex(flat[n])] = hex(flat[n + 1]) end
      end
      out['k' .. hex(key)] = {kind, value or false, redis.call('PEXPIRETIME', key)}
    end
    return cjson.encode(out)
    """
    return json.loads(cli("EVAL", code, "0"))


def main():
    contents = []
    for name, options in SERVERS.items():
        with tempfile.TemporaryDirectory() as directory:
            server = subprocess.Popen(
                ["redis-server", "--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--dir", directory,
                 "--dbfilename", "dump.rdb", *options],
                stdout=subprocess.DEVNULL,
            )
            try:
                while subprocess.run(["redis-cli", "-p", str(PORT), "PING"], capture_output=True).returncode:
                    time.sleep(0.05)
                script = b"".join(map(encoded, commands()))
                subprocess.run(["redis-cli", "-p", str(PORT), "--pipe"], input=script, check=True)
                contents.append(expected())
                cli("SAVE")
                (HERE / f"{name}.rdb").write_bytes(pathlib.Path(directory, "dump.rdb").read_bytes())
            finally:
                server.terminate()
                server.wait()
    assert all(content == contents[0] for content in contents)
    text = json.dumps(contents[0], sort_keys=True, indent=0)
    (HERE / "expected.json").write_text(text + "\n")


main()
