// node-redis, given the addresses of a keyspace at several nodes: redis://host:port/number each.

import assert from "node:assert/strict";
import { createClient, createClientPool, createCluster } from "redis";
import { eventually } from "./waiting.mjs";

const urls = process.argv.slice(2);
const keys = Array.from({ length: 1000 }, (_, n) => `key:${n}`);
const fields = Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`field:${n}`, String(n)]));
const sorted = (some) => [...some].sort();

const clients = await Promise.all(urls.map((url) => createClient({ url }).connect()));
const [first] = clients;
await first.flushDb();
await first.mSet(keys.map((key) => [key, "v"]));
await first.hSet("hash", fields);

for (const [n, client] of clients.entries()) {
  // What others wrote, once it is here; what it writes itself, at once.
  await eventually(async () => (await client.hLen("hash")) === 3000, "what was written is here");
  const found = [];
  for await (const page of client.scanIterator({ MATCH: "key:*", COUNT: 70 })) found.push(...page);
  assert.deepEqual(sorted(found), sorted(keys));
  const scanned = [];
  for await (const page of client.hScanIterator("hash", { COUNT: 100 })) scanned.push(...page);
  assert.deepEqual(Object.fromEntries(scanned.map(({ field, value }) => [field, value])), fields);
  assert.equal(scanned.length, 3000);
  assert.equal(await client.set(`own:${n}`, "1", { expiration: { type: "EX", value: 100 } }), "OK");
  assert.equal(await client.incr(`own:${n}`), 2);
  assert.equal(await client.get(`own:${n}`), "2");
  const [set, got] = await client.multi().set(`own:${n}`, "3").get(`own:${n}`).exec();
  assert.deepEqual([set, got], ["OK", "3"]);
}

// A pool's connections are sessions of their own.
const pool = await createClientPool({ url: urls[0] }, { minimum: 3 }).connect();
const numbers = Array.from({ length: 50 }, (_, n) => String(n));
await Promise.all(numbers.map((n) => pool.set(`pool:${n}`, n)));
const pooled = () => pool.mGet(numbers.map((n) => `pool:${n}`));
await eventually(async () => (await pooled()).join() === numbers.join(), "one connection sees what others wrote");
await pool.close();

// Quire is no Redis Cluster, and says so; the library says only that it found none.
const cluster = createCluster({ rootNodes: urls.map((url) => ({ url })) });
cluster.on("error", () => {});
await assert.rejects(cluster.connect(), /root nodes are unavailable/);
await Promise.all(clients.map((client) => client.close()));
console.log("passed");
