/** A writer reads its own write behind a real daemon on PostgreSQL, while others write, too. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { Redis } from "ioredis";

import { commitToken, Reader } from "../src/index.js";

type Note = { id: number; text: string; label: string };
type Client = {
  connect(): Promise<void>;
  query(sql: string, values?: unknown[]): Promise<unknown>;
  end(): Promise<void>;
};

const { Client, Pool } = createRequire(import.meta.url)("pg");
const redis = new Redis(process.env.REDIS_URL!);
const notes = new Reader<Note>(redis, "notes");
const client: Client = new Client({ connectionString: process.env.POSTGRES_URL });
const pool: Client = new Pool({ connectionString: process.env.POSTGRES_URL, max: 2 });

before(() => client.connect());
after(async () => {
  await client.end();
  await pool.end();
  redis.disconnect();
});

async function written(text: string): Promise<void> {
  await client.query("BEGIN");
  await client.query("UPDATE notes SET text = $1 WHERE id = 7", [text]);
  await client.query("COMMIT");
}

test("a token asked for after the commit", async () => {
  for (let number = 0; number < 100; number++) {
    await written(`own ${number}`);
    const note = await notes.get(7, { after: await commitToken(client), timeoutMs: 10_000 });
    assert.equal(note!.text, `own ${number}`);
  }
});

test("a token asked for on another connection, of a pool", async () => {
  for (let number = 0; number < 20; number++) {
    await written(`pooled ${number}`);
    const note = await notes.get(7, { after: await commitToken(pool), timeoutMs: 10_000 });
    assert.equal(note!.text, `pooled ${number}`);
  }
});

test("a session that has read only", async () => {
  await client.query("SELECT 1");
  const token = await commitToken(client);
  assert.match(token, /^postgres\|\d+\|1\|[0-9A-F]+\/[0-9A-F]+\|$/);
  await notes.wait(token, { timeoutMs: 5000 });
});
