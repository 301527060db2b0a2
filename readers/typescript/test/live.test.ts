/** A writer reads its own write behind a real daemon, while others write, too. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Redis } from "ioredis";
import { type Connection, createConnection } from "mysql2/promise";

import { commitToken, ownGtid, Reader } from "../src/index.js";

type Note = { id: number; text: string; label: string };

const redis = new Redis(process.env.REDIS_URL!);
const notes = new Reader<Note>(redis, "notes");
let connection: Connection;

before(async () => {
  connection = await createConnection({
    host: process.env.MYSQL_HOST!,
    port: Number(process.env.MYSQL_PORT),
    user: process.env.MYSQL_USER!,
    password: process.env.MYSQL_PASSWORD!,
    database: process.env.MYSQL_DATABASE!,
  });
});
after(async () => {
  await connection.end();
  redis.disconnect();
});

async function measured(kind: string, write: (text: string) => Promise<string>): Promise<void> {
  const latencies: number[] = [];
  for (let number = 0; number < 100; number++) {
    const token = await write(`${kind} ${number}`);
    const began = performance.now();
    const note = await notes.get(7, { after: token, timeoutMs: 10_000 });
    latencies.push(performance.now() - began);
    assert.equal(note!.text, `${kind} ${number}`);
  }
  latencies.sort((a, b) => a - b);
  const [p50, p99] = [latencies[49]!.toFixed(1), latencies[98]!.toFixed(1)];
  console.log(`node, ${kind}: own write readable after p50 ${p50} ms, p99 ${p99} ms`);
}

test("a token asked for after the commit", async () => {
  await measured("commitToken", async (text) => {
    await connection.beginTransaction();
    await connection.execute("UPDATE notes SET text = ? WHERE id = 7", [text]);
    await connection.commit();
    return commitToken(connection);
  });
});

test("a token that comes with the commit", { skip: process.env.FLAVOUR !== "mysql" }, async () => {
  await connection.query("SET SESSION session_track_gtids = OWN_GTID");
  await measured("ownGtid", async (text) => {
    await connection.beginTransaction();
    await connection.execute("UPDATE notes SET text = ? WHERE id = 7", [text]);
    const token = ownGtid(await connection.query("COMMIT"));
    assert.match(token!, /^[0-9a-f-]{36}:\d+$/);
    return token!;
  });
  assert.equal(ownGtid(await connection.query("SELECT 1")), undefined);
});

test("changes come once the document is there", async () => {
  for await (const change of notes.changes({ heartbeatMs: 5000 })) {
    if (change.written.length + change.removed.length === 0) {
      await connection.query("REPLACE INTO notes VALUES (2001, 1, 'heard')");
    } else if (change.written.includes("2001")) {
      assert.equal((await notes.get(2001))!.text, "heard");
      break;
    }
  }
  await connection.query("DELETE FROM notes WHERE id = 2001");
});
