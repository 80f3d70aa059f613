"""Flask-Caching with Quire behind it. Argument: the address of a keyspace, redis://host:port/number."""

import sys

from flask import Flask
from flask_caching import Cache

from waiting import eventually

URL = sys.argv[1]
SETTINGS = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": URL, "CACHE_DEFAULT_TIMEOUT": 300}
calls = {"page": 0, "soon": 0, "add": 0}


def site(prefix):
    app = Flask(prefix)
    cache = Cache(app, config=SETTINGS | {"CACHE_KEY_PREFIX": prefix})
    return app, cache


app, cache = site("one:")


@app.get("/page")
@cache.cached(query_string=True)
def page():
    calls["page"] += 1
    return f"page {calls['page']}"


@app.get("/soon")
@cache.cached(timeout=1)
def soon():
    calls["soon"] += 1
    return f"soon {calls['soon']}"


@cache.memoize(60)
def add(a, b):
    calls["add"] += 1
    return a + b


def pages():
    browser = app.test_client()
    assert [browser.get("/page").text for _ in range(3)] == ["page 1"] * 3
    assert browser.get("/page?of=2").text == "page 2" and browser.get("/page").text == "page 1"
    first = browser.get("/soon").text
    assert first == "soon 1"
    eventually(lambda: browser.get("/soon").text != first, "a page expires")
    assert 2 <= calls["soon"] <= 3


def functions():
    assert [add(1, 2), add(1, 2), add(2, 2)] == [3, 3, 4] and calls["add"] == 2
    cache.delete_memoized(add, 1, 2)
    assert add(1, 2) == 3 and calls["add"] == 3 and add(2, 2) == 4 and calls["add"] == 3
    cache.delete_memoized(add)
    assert add(2, 2) == 4 and calls["add"] == 4


def values():
    assert cache.set("a", {"b": [1, None]}) and cache.get("a") == {"b": [1, None]}
    assert not cache.add("a", 1) and cache.add("c", 1) and cache.has("c")
    assert cache.set_many({f"m{n}": n for n in range(50)})
    assert cache.get_many("m3", "none", "m4") == [3, None, 4] and cache.get_dict("m5", "none") == {"m5": 5, "none": None}
    assert cache.delete("a") and cache.get("a") is None and not cache.has("a")
    assert cache.delete_many("m0", "m1") and cache.get_many("m0", "m1", "m2") == [None, None, 2]


def clearing():
    """What one site clears is its own."""
    other_app, other = site("two:")
    with other_app.app_context():
        other.set("kept", 1)
    assert cache.clear()
    assert cache.get("m2") is None and app.test_client().get("/page").text == "page 3"
    with other_app.app_context():
        assert other.get("kept") == 1
        assert other.clear() and other.get("kept") is None


with app.app_context():
    cache.clear()
pages()
with app.app_context():
    functions(), values(), clearing()
print("passed")
