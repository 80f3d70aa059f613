"""Django with its cache and its sessions in Quire. Arguments: a cache backend, and the address of a
keyspace: redis://host:port/number. With `django.core.cache.backends.redis.RedisCache` or
`django_redis.cache.RedisCache`."""

import sys

import django
from django.conf import settings
from django.http import JsonResponse
from django.urls import path

from waiting import eventually

BACKEND, URL = sys.argv[1:]

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    CACHES={"default": {"BACKEND": BACKEND, "LOCATION": URL, "KEY_PREFIX": "site"}},
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)
django.setup()

from django.core.cache import cache  # noqa: E402: it reads the settings
from django.test import Client  # noqa: E402


def visit(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


def leave(request):
    request.session.flush()
    return JsonResponse({})


urlpatterns = [path("visit", visit), path("leave", leave)]


def raw():
    """The client beneath the cache."""
    return cache.client.get_client(write=True) if "django_redis" in BACKEND else cache._cache.get_client(write=True)


def ttl(key):
    return raw().ttl(cache.make_key(key))


def values():
    value = {"name": "Ada", "of": ["any", 1, None], "bytes": b"\0\r\n"}
    assert cache.get("a") is None and cache.get("a", "none") == "none"
    cache.set("a", value)
    assert cache.get("a") == value and cache.has_key("a") and 290 <= ttl("a") <= 300
    assert not cache.add("a", 1) and cache.add("b", 1) and cache.get("a") == value
    assert cache.get_or_set("b", lambda: 2) == 1
    cache.set("a", "of version 2", version=2)
    assert cache.get("a") == value and cache.get("a", version=2) == "of version 2"
    assert cache.delete("a") and not cache.delete("a") and cache.get("a") is None
    assert cache.get("a", version=2) == "of version 2"


def counters():
    cache.set("n", 40)
    assert cache.incr("n") == 41 and cache.incr("n", 2) == 43 and cache.decr("n") == 42
    assert cache.get("n") == 42 and ttl("n") > 0
    try:
        cache.incr("uncounted")
    except (ValueError, TypeError):
        # django-redis counts by a script, and without scripts by reading and writing, where this
        # is a TypeError: docs/clients.md.
        return
    raise AssertionError("what is not there was counted")


def expiry():
    cache.set("forever", 1, timeout=None)
    assert ttl("forever") == -1
    cache.set("never", 1, timeout=0)
    assert cache.get("never") is None
    cache.set("soon", 1, timeout=1)
    assert 0 <= ttl("soon") <= 1
    eventually(lambda: cache.get("soon") is None, "it expires")
    assert cache.touch("forever", 100) and 90 <= ttl("forever") <= 100
    assert cache.touch("forever", None) and ttl("forever") == -1
    assert not cache.touch("soon", 100)


def many():
    some = {f"m{n}": n for n in range(50)}
    assert not cache.set_many(some, timeout=60)
    assert cache.get_many([*some, "none"]) == some and 0 < ttl("m7") <= 60
    cache.delete_many(["m0", "m1", "none"])
    assert cache.get_many(["m0", "m1", "m2"]) == {"m2": 2}


def sessions():
    browser = Client()
    assert [browser.get("/visit").json()["visits"] for _ in range(3)] == [1, 2, 3]
    assert Client().get("/visit").json()["visits"] == 1, "another browser"
    key = f"django.contrib.sessions.cache{browser.cookies['sessionid'].value}"
    assert cache.get(key)["visits"] == 3 and ttl(key) > 1_000_000
    raw().connection_pool.disconnect()
    # A new connection, and what the old one wrote may be on its way to this node still.
    eventually(lambda: (cache.get(key) or {}).get("visits") == 3, "the session is here")
    assert browser.get("/visit").json()["visits"] == 4
    browser.get("/leave")
    assert cache.get(key) is None and browser.get("/visit").json()["visits"] == 1


def clearing():
    cache.set("left", 1)
    cache.clear()
    assert cache.get("left") is None and cache.get("a", version=2) is None and raw().dbsize() == 0


cache.clear()
values(), counters(), expiry(), many(), sessions()
if "django_redis" in BACKEND:
    cache.set_many({f"p{n}": n for n in range(25)})
    assert cache.ttl("p1") > 200 and sorted(cache.keys("p*")) == sorted(f"p{n}" for n in range(25))
    assert cache.delete_pattern("p1*") == 11 and sorted(cache.iter_keys("p2?")) == [f"p2{n}" for n in range(5)]
clearing()
print("passed")
