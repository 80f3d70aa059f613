"""fastapi-cache2 with Quire behind it. Argument: the address of a keyspace, redis://host:port/number."""

import sys
from contextlib import asynccontextmanager

import redis.asyncio as redis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache

from waiting import eventually

URL = sys.argv[1]
calls = 0


@asynccontextmanager
async def lifespan(_):
    async with redis.from_url(URL) as client:
        await client.flushdb()
        FastAPICache.init(RedisBackend(client), prefix="api")
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/item/{number}")
@cache(expire=60)
async def item(number: int):
    global calls
    calls += 1
    return {"number": number, "call": calls}


@app.get("/soon")
@cache(expire=1)
async def soon():
    global calls
    calls += 1
    return {"call": calls}


@app.get("/backend/{what}")
async def backend(what: str):
    """What the backend answers where its connections are."""
    one = FastAPICache.get_backend()
    if what == "values":
        await one.set("k", b"\0v\r\n", 100)
        ttl, value = await one.get_with_ttl("k")
        assert value == await one.get("k") == b"\0v\r\n" and 90 <= ttl <= 100
        assert tuple(await one.get_with_ttl("none")) == (-2, None)
        assert await one.clear(key="k") == 1 and await one.get("k") is None
    else:
        keys = [key async for key in one.redis.scan_iter(match="api:*")]
        assert len(keys) >= 2, keys
        for key in keys:
            assert await one.clear(key=key.decode()) == 1
        try:
            # It is a script, which Quire has not: docs/clients.md.
            await FastAPICache.clear(namespace="")
        except redis.ResponseError as error:
            assert "unknown command 'EVAL'" in str(error)
        else:
            raise AssertionError("scripts work: say so in docs/clients.md")
    return "ok"


with TestClient(app) as browser:

    def get(where):
        answer = browser.get(where)
        assert answer.status_code == 200, answer.text
        return answer.headers.get("x-fastapi-cache"), answer.json()

    assert get("/item/1") == ("MISS", {"number": 1, "call": 1})
    assert get("/item/1") == ("HIT", {"number": 1, "call": 1})
    assert get("/item/2") == ("MISS", {"number": 2, "call": 2})
    assert get("/soon")[0] == "MISS"
    eventually(lambda: get("/soon")[0] == "MISS", "a page expires")
    assert get("/backend/values") == (None, "ok")
    before = calls
    assert get("/backend/clear") == (None, "ok")
    assert get("/item/1") == ("MISS", {"number": 1, "call": before + 1})
print("passed")
