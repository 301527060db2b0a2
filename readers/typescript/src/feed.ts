/** The change stream: `{name}:changes`, read without end on a connection of its own. */
import { setTimeout as sleep } from "node:timers/promises";

import type { Commands } from "./client.js";
import { ChangesLostError, InvalidTokenError } from "./errors.js";
import { isAway, within } from "./outcomes.js";
import * as replies from "./replies.js";
import type { Change } from "./replies.js";

const BLOCK_MS = 2000; // a blocked XREAD looks up so often, to notice a stream that was lost

/** `after`: go on after the change with this id ("0": from the oldest one kept); else from now on.
 * `heartbeatMs`: a change without ids comes at once, and whenever nothing came for so long.
 * `patienceMs` (60000): connections that break are made again for so long; then the client's error
 * comes out. `count` (500): entries a read. `signal` ends the iteration. */
export interface ChangesOptions {
  readonly after?: string;
  readonly count?: number;
  readonly heartbeatMs?: number;
  readonly patienceMs?: number;
  readonly signal?: AbortSignal;
}

type Own = ReturnType<Commands["open"]>;

/** A reading of the stream on its way. */
export class Feed {
  readonly #key: string;
  readonly #patienceMs: number;
  readonly #blockMs: number;
  #lastId = "0-0";
  #awaySince: number | undefined;
  #own: Own | undefined;

  constructor(
    private readonly redis: Commands,
    private readonly name: string,
    private readonly options: ChangesOptions,
  ) {
    this.#key = `{${name}}:changes`;
    this.#patienceMs = options.patienceMs ?? 60_000;
    this.#blockMs = Math.max(1, Math.round(Math.min(BLOCK_MS, options.heartbeatMs ?? BLOCK_MS)));
  }

  async *follow(): AsyncGenerator<Change, void, void> {
    const { after, heartbeatMs, signal } = this.options;
    this.#lastId = after === undefined ? await this.#newest() : entryId(after).join("-");
    let beatAt = performance.now();
    this.#own = this.redis.open();
    const abort = () => this.#own?.close();
    signal?.addEventListener("abort", abort);
    try {
      while (!signal?.aborted) {
        if (heartbeatMs !== undefined && performance.now() >= beatAt) {
          beatAt = performance.now() + heartbeatMs;
          yield { id: this.#lastId, written: [], removed: [] };
        }
        const found = await this.#listen();
        for (const change of found) {
          yield change;
          this.#lastId = change.id;
          beatAt = performance.now() + (heartbeatMs ?? 0);
        }
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#own?.close();
    }
  }

  async #listen(): Promise<Change[]> {
    const began = performance.now();
    try {
      this.#own ??= this.redis.open();
      const found = await this.#read(this.#own);
      this.#awaySince = undefined;
      return found;
    } catch (error) {
      if (this.options.signal?.aborted) return [];
      this.#awaySince ??= began;
      const awayMs = performance.now() - this.#awaySince;
      if (error instanceof ChangesLostError || !isAway(error)) throw error;
      if (awayMs >= this.#patienceMs) throw error;
      this.#own?.close(); // a client may have given its connection up for good
      this.#own = undefined;
      await sleep(Math.min(1000, 50 + awayMs / 2));
      return [];
    }
  }

  async #read(own: Commands): Promise<Change[]> {
    const count = `${this.options.count ?? 500}`;
    const block = ["BLOCK", `${this.#blockMs}`, "STREAMS", this.#key, this.#lastId];
    const answer = own.command(["XREAD", "COUNT", count, ...block]);
    const found = replies.changes(await within(answer, this.#blockMs + this.#patienceMs));
    if (this.#lastId === "0-0") return found; // everything that is kept was asked for
    // Read after the changes: whatever was trimmed before them, the first entry is later now.
    const oldest = await this.#edge("XRANGE");
    let isLost = oldest === undefined || isBefore(this.#lastId, oldest);
    const newest = isLost || found.length === 0 ? await this.#edge("XREVRANGE") : undefined;
    isLost ||= found.length === 0 && (newest === undefined || isBefore(newest, this.#lastId));
    if (!isLost) return found;
    throw new ChangesLostError(
      `changes of ${JSON.stringify(this.name)} after ${this.#lastId} are no longer in the stream`,
      this.#lastId,
      newest ?? "0-0",
    );
  }

  async #newest(): Promise<string> {
    return (await this.#edge("XREVRANGE")) ?? "0-0";
  }

  async #edge(command: "XRANGE" | "XREVRANGE"): Promise<string | undefined> {
    const ends = command === "XRANGE" ? ["-", "+"] : ["+", "-"];
    const answer = this.redis.command([command, this.#key, ...ends, "COUNT", "1"]);
    return replies.entryIds(await within(answer, this.#patienceMs + BLOCK_MS))[0];
  }
}

function isBefore(first: string, second: string): boolean {
  const [a, b] = [entryId(first), entryId(second)];
  return a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
}

function entryId(text: string): [bigint, bigint] {
  const found = /^([0-9]{1,20})(?:-([0-9]{1,20}))?$/.exec(text);
  const id: [bigint, bigint] = [BigInt(found?.[1] ?? 0), BigInt(found?.[2] ?? 0)];
  if (found && id.every((part) => part < 2n ** 64n)) return id;
  throw new InvalidTokenError("not an id of the change stream");
}
