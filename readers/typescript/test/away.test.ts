/** Redis is killed under a waiting reader; whoever runs this test does so when asked for it. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Redis } from "ioredis";
import { createClient } from "redis";

import { commandsOf, type IoredisLike, type NodeRedisLike, Reader } from "../src/index.js";

const SID = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const url = process.env.REDIS_URL!;

async function made(): Promise<{ client: IoredisLike | NodeRedisLike; close: () => void }> {
  if (process.env.CLIENT === "ioredis") {
    const client = new Redis(url).on("error", () => undefined);
    return { client, close: () => client.disconnect() };
  }
  const client = await createClient({ url }).on("error", () => undefined).connect();
  return { client, close: () => client.destroy() };
}

test("a killed Redis is waited for, and one that stays away is told", async () => {
  const { client, close } = await made();
  const redis = commandsOf(client);
  await redis.command(["FLUSHDB"]);
  const position = `mysql|u|binlog.000001|4|${SID}:1-4`;
  await redis.command(["HSET", "{notes}:checkpoint", "position", position, "owed", "0"]);
  await redis.command(["XADD", "{notes}:changes", "*", "written", '["1"]', "removed", "[]"]);
  const reader = new Reader(client, "notes");
  const changes = reader.changes({ after: "0", patienceMs: 15_000 });
  assert.deepEqual((await changes.next()).value!.written, ["1"]);
  const heard = changes.next();
  const arrival = reader.wait(`${SID}:5`, { timeoutMs: 20_000 });
  await redis.command(["SET", "please", "revive"]);
  await arrival;
  const { id, written } = (await heard).value!;
  assert.deepEqual(written, ["2"]);
  await changes.return();

  const impatient = reader.changes({ after: id, patienceMs: 500 });
  const lost = assert.rejects(impatient.next(), (error) => error instanceof Error);
  await redis.command(["SET", "please", "kill"]);
  await lost;
  const began = performance.now();
  await assert.rejects(reader.wait(`${SID}:6`, { timeoutMs: 300 }), /Redis is away/);
  assert.ok(performance.now() - began < 1500);
  close();
});
