// ioredis, given the addresses of a keyspace at several nodes: redis://host:port/number each.

import assert from "node:assert/strict";
import { Cluster, Redis } from "ioredis";
import { eventually } from "./waiting.mjs";

const urls = process.argv.slice(2);
const keys = Array.from({ length: 1000 }, (_, n) => `key:${n}`);
const fields = Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`field:${n}`, String(n)]));
const sorted = (some) => [...some].sort();

const clients = urls.map((url) => new Redis(url, { enableReadyCheck: true, maxRetriesPerRequest: 1 }));
const [first] = clients;
await first.flushdb();
await first.mset(keys.flatMap((key) => [key, "v"]));
await first.hset("hash", fields);

for (const [n, client] of clients.entries()) {
  // What others wrote, once it is here; what it writes itself, at once.
  await eventually(async () => (await client.hlen("hash")) === 3000, "what was written is here");
  const found = [];
  for await (const page of client.scanStream({ match: "key:*", count: 70 })) found.push(...page);
  assert.deepEqual(sorted(found), sorted(keys));
  const scanned = [];
  for await (const page of client.hscanStream("hash", { count: 100 })) scanned.push(...page);
  assert.equal(scanned.length, 6000);
  const pairs = scanned.flatMap((field, at) => (at % 2 ? [] : [[field, scanned[at + 1]]]));
  assert.deepEqual(Object.fromEntries(pairs), fields);
  assert.equal(await client.set(`own:${n}`, 1, "EX", 100), "OK");
  assert.equal(await client.incr(`own:${n}`), 2);
  assert.equal(await client.get(`own:${n}`), "2");
  const done = await client.multi().set(`own:${n}`, 3).get(`own:${n}`).exec();
  assert.deepEqual(done, [[null, "OK"], [null, "3"]]);
}

// What was sent while a connection was lost is sent again.
const name = "lost:1";
await first.client("SETNAME", name);
const lines = (await clients[1].client("LIST")).split("\n");
assert.ok(lines.length > 1);
const id = await first.client("ID");
const again = new Promise((done) => first.once("ready", done));
const killer = new Redis(urls[0]);
assert.equal(await killer.client("KILL", "ID", id), 1);
await again;
assert.equal(await first.get("key:1"), "v", "and the keyspace is selected again");
killer.disconnect();

// Quire is no Redis Cluster, and says so.
const cluster = new Cluster(urls, { clusterRetryStrategy: () => null });
const said = [];
cluster.on("error", (error) => said.push(error.lastNodeError?.message ?? error.message));
await assert.rejects(cluster.get("key:1"));
assert.match(said.join(), /cluster support disabled/);
cluster.disconnect();
clients.forEach((client) => client.disconnect());
console.log("passed");
