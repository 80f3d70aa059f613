// Express with its sessions in Quire, by connect-redis and node-redis. Argument: the address of a
// keyspace, redis://host:port/number.

import assert from "node:assert/strict";
import { once } from "node:events";
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { createClient } from "redis";
import { eventually } from "./waiting.mjs";

const url = process.argv[2];

/** A process of the site. */
async function begin() {
  const client = await createClient({ url }).connect();
  const store = new RedisStore({ client, prefix: "web:", ttl: 600, scanCount: 10 });
  const app = express();
  app.use(session({ store, secret: "of a test", resave: false, saveUninitialized: false }));
  app.get("/visit", (request, answer) => {
    request.session.visits = (request.session.visits ?? 0) + 1;
    if (request.query.for) request.session.cookie.maxAge = Number(request.query.for);
    answer.json({ visits: request.session.visits, id: request.session.id });
  });
  app.get("/leave", (request, answer, next) =>
    request.session.destroy((error) => (error ? next(error) : answer.json({}))));
  const server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
  const end = async () => {
    server.closeAllConnections();
    server.close();
    await client.close();
  };
  return { client, store, port: server.address().port, end };
}

/** A browser, which keeps its cookie. */
class Browser {
  async get(site, path) {
    const headers = this.cookie ? { cookie: this.cookie } : {};
    const answer = await fetch(`http://127.0.0.1:${site.port}${path}`, { headers });
    assert.equal(answer.status, 200, path);
    const [set] = answer.headers.getSetCookie();
    if (set) this.cookie = set.split(";")[0];
    return answer.json();
  }
}

let site = await begin();
await site.client.flushDb();
const ada = new Browser();
const bob = new Browser();
for (const visits of [1, 2, 3]) assert.equal((await ada.get(site, "/visit")).visits, visits);
const { id } = await ada.get(site, "/visit");
assert.equal((await bob.get(site, "/visit")).visits, 1);
const ttl = await site.client.ttl(`web:${id}`);
assert.ok(ttl > 590 && ttl <= 600, `ttl ${ttl}`);

// The site begins anew, and the sessions are there: once they are at this node.
await site.end();
site = await begin();
await eventually(async () => (await site.store.get(id))?.visits === 4, "the session is here");
assert.equal((await ada.get(site, "/visit")).visits, 5);

// Enough sessions for several calls of SCAN.
for (let n = 0; n < 50; n++) await new Browser().get(site, "/visit");
assert.equal(await site.store.length(), 52);
assert.ok((await site.store.ids()).includes(id));
assert.equal((await site.store.all()).find((one) => one.id === id).visits, 5);

// Which end: of their own, by what they do, and all.
const eve = new Browser();
const brief = await eve.get(site, "/visit?for=1000");
await eventually(async () => (await site.store.get(brief.id)) == null, "a session expires");
assert.equal((await eve.get(site, "/visit")).visits, 1);
await bob.get(site, "/leave");
assert.equal((await bob.get(site, "/visit")).visits, 1);
await site.store.clear();
assert.equal(await site.store.length(), 0);
assert.equal((await ada.get(site, "/visit")).visits, 1);
await site.end();
console.log("passed");
