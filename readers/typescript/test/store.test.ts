/** The reader on a hash, checkpoint and stream made by hand, over each kind of client. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { Cluster, Redis } from "ioredis";
import { createClient, createCluster, createSentinel } from "redis";

import {
  type Change,
  ChangesLostError,
  type Commands,
  commandsOf,
  DocumentError,
  type IoredisLike,
  InvalidTokenError,
  type NodeRedisLike,
  NotComparableError,
  Reader,
  ViewError,
  WaitTimeoutError,
} from "../src/index.js";

const SID = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const [URL_, CLUSTER, SENTINEL] = [
  process.env.REDIS_URL!,
  Number(process.env.CLUSTER_PORT),
  Number(process.env.SENTINEL_PORT),
];
const AT = { host: "127.0.0.1", port: CLUSTER };
const quiet = <C extends { on(event: "error", f: () => void): unknown }>(client: C): C => {
  client.on("error", () => undefined);
  return client;
};

type Made = { client: IoredisLike | NodeRedisLike; close: () => void };
const CLIENTS: Record<string, () => Promise<Made>> = {
  ioredis: async () => {
    const client = quiet(new Redis(URL_));
    return { client, close: () => client.disconnect() };
  },
  "node-redis": async () => {
    const client = await quiet(createClient({ url: URL_ })).connect();
    return { client, close: () => client.destroy() };
  },
  "node-redis, RESP2": async () => {
    const client = await quiet(createClient({ url: URL_, RESP: 2 })).connect();
    return { client, close: () => client.destroy() };
  },
  "ioredis, Cluster": async () => {
    const client = quiet(new Cluster([AT]));
    return { client, close: () => client.disconnect() };
  },
  "node-redis, Cluster": async () => {
    const client = quiet(createCluster({ rootNodes: [{ socket: AT }] }));
    await client.connect();
    return { client, close: () => client.destroy() };
  },
  "ioredis, Sentinel": async () => {
    const sentinels = [{ host: "127.0.0.1", port: SENTINEL }];
    const client = quiet(new Redis({ sentinels, name: "documents", db: 1 }));
    return { client, close: () => client.disconnect() };
  },
  "node-redis, Sentinel": async () => {
    const sentinelRootNodes = [{ host: "127.0.0.1", port: SENTINEL }];
    const nodeClientOptions = { database: 1 };
    const client = quiet(createSentinel({ name: "documents", sentinelRootNodes, nodeClientOptions }));
    await client.connect();
    return { client, close: () => client.destroy() };
  },
};

type Note = { id: number; text: string };

/** What a projector would have written. */
class Store {
  constructor(
    private readonly redis: Commands,
    readonly name: string,
  ) {}

  run(...args: string[]): Promise<unknown> {
    return this.redis.command(args);
  }

  key(rest: string): string {
    return `{${this.name}}:${rest}`;
  }

  async put(numbers: number[], text = "x"): Promise<void> {
    const flat = numbers.flatMap((id) => [`${id}`, JSON.stringify({ id, text })]);
    await this.run("HSET", this.name, ...flat);
  }

  async reach(number: number, owed = "0"): Promise<void> {
    const position = `mysql|u|binlog.000001|4|${SID}:1-${number}`;
    const fields = ["position", position, "committed_at", `${Date.now() / 1000}`, "owed", owed];
    await this.run("HSET", this.key("checkpoint"), ...fields);
  }

  async change(...written: string[]): Promise<string> {
    const fields = ["written", JSON.stringify(written), "removed", "[]"];
    return String(await this.run("XADD", this.key("changes"), "*", ...fields));
  }

  async clear(): Promise<void> {
    const rests = ["checkpoint", "changes", "debts", "lease", "daemon", "views", "lists:kind"];
    for (const rest of [...rests, "by:kind:a%7Cb"]) {
      await this.run("DEL", this.key(rest));
    }
    await this.run("DEL", this.name);
  }
}

async function take<T>(count: number, iteration: AsyncGenerator<T>): Promise<T[]> {
  const found: T[] = [];
  while (found.length < count) found.push((await iteration.next()).value as T);
  return found;
}

async function all<T>(iteration: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const each of iteration) found.push(each);
  return found;
}

for (const [label, make] of Object.entries(CLIENTS)) {
  describe(label, () => {
    let made: Made;
    let store: Store;
    let reader: Reader<Note>;
    before(async () => {
      made = await make();
    });
    after(() => made.close());
    beforeEach(async () => {
      store = new Store(commandsOf(made.client), `notes ${label}|%ü`);
      await store.clear();
      reader = new Reader<Note>(made.client, store.name);
    });
    afterEach(() => store.clear());

    test("lists are paged, the newest first, ties by id", async () => {
      await store.put([1, 2, 3, 4, 5]);
      const entries = ["5", "1", "5", "2", "5", "10", "9.5", "4", "0", "3", "-inf", "5"];
      await store.run("ZADD", store.key("by:kind:a%7Cb"), ...entries);
      await store.run("HSET", store.key("lists:kind"), "a%7Cb", "6", "other", "3 5 2");
      const parts = [{ kind: "text", pads: true }];
      await store.run("HSET", store.key("views"), "kind", JSON.stringify({ parts }));
      const seen: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await reader.view("by_kind", "a|b  ", { cursor, count: 2 });
        seen.push(...page.documents.keys());
        assert.equal(page.total, 6);
        cursor = page.cursor;
      } while (cursor !== undefined);
      assert.deepEqual(seen, ["4", "2", "1", "3", "5"]); // 10 has no document
      assert.deepEqual([...(await reader.values("by_kind"))].sort(), [["a%7Cb", 6], ["other", 3]]);
      await assert.rejects(reader.view("by_other", "x"), ViewError);
      await assert.rejects(reader.view("by_kind", ["x", "y"]), ViewError);
    });

    test("documents come parsed; those that are missing are left out", async () => {
      const numbers = Array.from({ length: 1200 }, (_, at) => at + 1);
      await store.put(numbers);
      assert.deepEqual(await reader.get(7), { id: 7, text: "x" });
      assert.equal(await reader.get(0), undefined);
      const found = await reader.getMany([...numbers, 9999, 7]);
      assert.deepEqual([...found.keys()], numbers);
      assert.equal(await reader.count(), 1200);
      const names = new Set(numbers.map(String));
      assert.deepEqual(new Set((await all(reader.scan({ maxCount: 100 }))).map(([k]) => k)), names);
      assert.deepEqual(new Set(await all(reader.ids({ maxCount: 100 }))), names);
      const page = await reader.page("0", 10);
      assert.notEqual(page.cursor, "0");
      for (const [id, note] of page.documents) assert.equal(`${note.id}`, id);
      const raw = new Reader(made.client, store.name, { parse: (bytes) => bytes });
      assert.equal((await raw.get(7))!.toString(), '{"id":7,"text":"x"}');
    });

    test("a hash that is not there is empty", async () => {
      assert.equal(await reader.get(1), undefined);
      assert.equal((await reader.getMany([1])).size + (await reader.getMany([])).size, 0);
      assert.equal(await reader.count(), 0);
      assert.deepEqual([await all(reader.scan()), await all(reader.ids())], [[], []]);
      assert.equal(await reader.checkpoint(), undefined);
      assert.equal(await reader.isFresh(), false);
      await assert.rejects(reader.wait(`${SID}:1`, { timeoutMs: 50 }), /no checkpoint/);
    });

    test("a large document comes through, one that is no JSON is named", async () => {
      await store.put([1], "z".repeat(20_000_000));
      assert.equal((await reader.get(1))!.text.length, 20_000_000);
      assert.equal((await all(reader.scan({ maxBytes: 1000 }))).length, 1);
      await store.run("HSET", store.name, "2", "no JSON");
      await assert.rejects(reader.get(2), (error) => error instanceof DocumentError
        && error.documentId === "2" && error.cause instanceof SyntaxError);
    });

    test("a write is waited for, and nobody waits for ever", async () => {
      await store.put([1]);
      await store.reach(4);
      setTimeout(() => void store.reach(5), 100);
      const checkpoint = await reader.wait(`${SID}:5`);
      assert.ok(checkpoint.position.includes(`${SID}:1-5`));
      assert.ok(Date.now() - checkpoint.committedAt!.getTime() < 5000);
      assert.equal((await reader.get(1, { after: `${SID}:5` }))!.id, 1);
      const began = performance.now();
      await assert.rejects(reader.get(1, { after: `${SID}:6`, timeoutMs: 100 }), WaitTimeoutError);
      assert.ok(performance.now() - began < 1000);
      await reader.wait(`${SID}:5`, { timeoutMs: 0 });
      await assert.rejects(reader.wait("0-1-5"), NotComparableError);
      await assert.rejects(reader.wait("nonsense"), InvalidTokenError);
    });

    test("what is owed is waited for, but for the background", async () => {
      await store.reach(5, "1");
      await store.run("HSET", store.key("debts"), "scrub", "{}");
      await reader.wait(`${SID}:5`, { timeoutMs: 100 });
      await store.run("HSET", store.key("debts"), "route:1", "{}");
      await assert.rejects(reader.wait(`${SID}:5`, { timeoutMs: 50 }), { isReached: true });
      await reader.wait(`${SID}:5`, { timeoutMs: 50, complete: false });
    });

    test("changes are followed, taken up again, and told as lost", async () => {
      const first = await store.change("1");
      const controller = new AbortController();
      const changes = reader.changes({ heartbeatMs: 200, signal: controller.signal });
      assert.deepEqual(await take(1, changes), [{ id: first, written: [], removed: [] }]);
      const second = await store.change("2");
      const [heard, beat] = (await take(2, changes)) as [Change, Change];
      assert.deepEqual([heard.id, heard.written, beat.written], [second, ["2"], []]);
      controller.abort();
      assert.deepEqual((await all(changes)).filter((change) => change.written.length), []);
      const resumed = reader.changes({ after: first });
      assert.equal((await take(1, resumed))[0]!.id, second);
      await store.run("XTRIM", store.key("changes"), "MAXLEN", "0");
      const third = await store.change("3");
      await assert.rejects(resumed.next(), (error) => error instanceof ChangesLostError
        && error.lastId === second && error.resumeFrom === third);
      for (const nonsense of ["x", "", "1-x", "$", "99999999999999999999-0"]) {
        await assert.rejects(reader.changes({ after: nonsense }).next(), InvalidTokenError);
      }
      for await (const change of reader.changes({ after: "0" })) {
        assert.deepEqual(change.written, ["3"]);
        break; // ends the connection, too
      }
    });

    test("health tells whether documents are kept", async () => {
      await store.put([1, 2]);
      await store.reach(5);
      await store.run("SET", store.key("daemon"), '{"lag_s": 0.1}');
      assert.equal(await reader.isFresh(), false);
      await store.run("SET", store.key("lease"), "x");
      const { checkpoint: _, ...health } = await reader.health();
      assert.deepEqual(health, { documents: 2, isLed: true, lagS: 0.1 });
      assert.equal(await reader.isFresh(), true);
      assert.equal(await reader.isFresh(50), false);
    });
  });
}
