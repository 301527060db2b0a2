/** The reader: the documents of one projection. */
import { setTimeout as sleep } from "node:timers/promises";

import { type Commands, type IoredisLike, type NodeRedisLike, commandsOf } from "./client.js";
import { DocumentError, ViewError, WaitTimeoutError } from "./errors.js";
import { type ChangesOptions, Feed } from "./feed.js";
import { type DocumentKey, documentId } from "./ids.js";
import * as lists from "./lists.js";
import type { Listed, ListValue } from "./lists.js";
import { isAway, isDenied, within } from "./outcomes.js";
import { parseToken } from "./position.js";
import * as replies from "./replies.js";
import type { Change, Checkpoint, Health, Page } from "./replies.js";

export type { ChangesOptions };

const MANY = 500; // documents an HMGET
const FIRST_PAUSE_MS = 1; // a commit arrives within milliseconds; a look at the checkpoint is cheap
const PAUSE_MS = 10;
const VIEWS_MS = 60_000; // a view's declaration is read again then
const BACKGROUND = new Set(["scrub", "refresh", "lists"]); // walks that no document waits for

/** `after`: wait for this token first, at most `timeoutMs` (2000). */
export interface ReadOptions {
  readonly after?: string;
  readonly timeoutMs?: number;
}

/** `count` documents a page (20), after those of the page that gave `cursor`. */
export interface ListOptions {
  readonly cursor?: string | undefined;
  readonly count?: number;
}

/** A call to Redis asks for at most `maxCount` documents (1000), and for so many as should make
 * `maxBytes` (4 MiB), judged by those before. */
export interface ScanOptions {
  readonly maxCount?: number;
  readonly maxBytes?: number;
}

/** The documents of one projection. The client stays the caller's. */
export class Reader<T = unknown> {
  readonly #redis: Commands;
  readonly #parse: (document: Buffer) => T;
  readonly #secrets: Readonly<Record<string, string>>;
  readonly #views = new Map<string, { until: number; parts: readonly lists.KeyPartOfView[] }>();
  readonly #foldings = new Map<string, lists.Folding>();
  #hasNovalues = true;

  /** `name`: the projection's. `parse` makes a value of a document's bytes; without it, `JSON.parse`,
   * which rounds numbers above 2^53. `secrets`: keys that mask values of views, by the name that the
   * projection has for them; else they are read from the environment. */
  constructor(
    client: Commands | IoredisLike | NodeRedisLike,
    readonly name: string,
    options: {
      readonly parse?: (document: Buffer) => T;
      readonly secrets?: Readonly<Record<string, string>>;
    } = {},
  ) {
    if (!name) throw new TypeError("the projection's name is empty");
    this.#redis = commandsOf(client);
    this.#secrets = options.secrets ?? {};
    this.#parse = options.parse ?? ((document) => JSON.parse(document.toString()) as T);
  }

  /** Return one document, undefined when there is none. */
  async get(key: DocumentKey, options: ReadOptions = {}): Promise<T | undefined> {
    const id = documentId(key);
    await this.#arrival(options);
    const value = await this.#command("HGET", this.name, id);
    return isMissing(value) ? undefined : this.#parsed(id, value);
  }

  /** Return those of these documents that exist, by the keys asked for and in their order. */
  async getMany<K extends DocumentKey>(
    keys: Iterable<K>,
    options: ReadOptions = {},
  ): Promise<Map<K, T>> {
    const wanted = [...new Set(keys)].map((key) => [key, documentId(key)] as const);
    await this.#arrival(options);
    const found = new Map<K, T>();
    for (let first = 0; first < wanted.length; first += MANY) {
      const some = wanted.slice(first, first + MANY);
      const reply = await this.#command("HMGET", this.name, ...some.map(([, id]) => id));
      const values = replies.list(reply);
      some.forEach(([key, id], at) => {
        if (!isMissing(values[at])) found.set(key, this.#parsed(id, values[at]));
      });
    }
    return found;
  }

  /** Return the number of documents. */
  async count(): Promise<number> {
    return Number(await this.#command("HLEN", this.name));
  }

  /** Return about `count` documents, and the cursor of the next page. */
  async page(cursor = "0", count = 100): Promise<Page<T>> {
    const [following, found] = await this.#scan(cursor, count);
    return { cursor: following, documents: new Map(this.#allParsed(found)) };
  }

  /** Return a page of the list of `values`, one for each part of the view's key, the newest first;
   * `cursor`: of the page before. A document that is moved to the front meanwhile is not met again.
   * Throws ViewError. */
  async view(
    view: string,
    values: ListValue | readonly ListValue[],
    { cursor, count = 20 }: ListOptions = {},
  ): Promise<Listed<T>> {
    const parts = await this.#partsOf(view);
    const given = Array.isArray(values) ? (values as ListValue[]) : [values as ListValue];
    const name = lists.listName(view, given, parts, this.#foldings, this.#secrets);
    const asked = `${Math.max(1, Math.min(Math.floor(count), lists.MOST))}`;
    const keys = ["2", this.#key(`by:${name}`), this.name];
    const reply = await this.#script([...keys, ...lists.readCursor(cursor), asked]);
    const [total, hasMore, entries, found] = replies.list(reply);
    const [flat, values_] = [replies.list(entries).map(replies.text), replies.list(found)];
    const documents = new Map<string, T>();
    values_.forEach((value, at) => {
      const id = flat[2 * at]!;
      if (!isMissing(value)) documents.set(id, this.#parsed(id, value));
    });
    const last = flat.length - 2;
    const following = Number(hasMore) && last >= 0 ? `${flat[last + 1]}:${flat[last]}` : undefined;
    return { documents, cursor: following, total: Number(total) };
  }

  /** Return the values of a view's key that documents have, as they are spelled in lists, and how
   * many documents each has; `count` of them at most. */
  async values(view: string, count = 1000): Promise<Map<string, number>> {
    await this.#partsOf(view);
    const found = new Map<string, number>();
    const key = this.#key(`lists:${lists.shortName(view)}`);
    let cursor = "0";
    do {
      const reply = replies.list(await this.#command("HSCAN", key, cursor, "COUNT", "500"));
      cursor = replies.text(reply[0]);
      for (const [value, size] of replies.pairs(reply[1])) {
        if (found.size < count) found.set(value, Number(size.toString().split(" ")[0]));
      }
    } while (cursor !== "0" && found.size < count);
    return found;
  }

  /** Go through all documents: each that stands there from beginning to end comes at least once;
   * one that changes meanwhile may come twice, the later one with the later state. */
  async *scan(options: ScanOptions = {}): AsyncGenerator<[id: string, document: T], void, void> {
    const pace = new Pace(options);
    let cursor = "0";
    do {
      const [following, found] = await this.#scan(cursor, pace.count);
      pace.adapt(found);
      cursor = following;
      yield* this.#allParsed(found);
    } while (cursor !== "0");
  }

  /** Go through all ids, as `scan` does; before Redis 7.4 the documents come along unseen. */
  async *ids(options: ScanOptions = {}): AsyncGenerator<string, void, void> {
    const pace = new Pace(options);
    let cursor = "0";
    do {
      const [following, found] = await this.#scanIds(cursor, pace);
      cursor = following;
      yield* found;
    } while (cursor !== "0");
  }

  /** Follow the change stream for ever, on a connection of its own that ends with the iteration.
   * Throws ChangesLostError when changes have been trimmed that were not read. */
  async *changes(options: ChangesOptions = {}): AsyncGenerator<Change, void, void> {
    yield* new Feed(this.#redis, this.name, options).follow();
  }

  /** Wait until the documents include what the token names: what `commitToken` gave after a commit.
   * Return the checkpoint that says so.
   *
   * A change that touches very many documents, and a walk over all of them, are worked off behind
   * the checkpoint; `complete: false` does not wait for what is owed so. Throws WaitTimeoutError,
   * InvalidTokenError, NotComparableError. A Redis that is away is waited for, too. */
  async wait(
    token: string,
    { timeoutMs = 2000, complete = true }: { timeoutMs?: number; complete?: boolean } = {},
  ): Promise<Checkpoint> {
    const wanted = parseToken(token);
    const deadline = performance.now() + timeoutMs;
    let reason = "there is no checkpoint: does a projector run for this name?";
    let isReached = false;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(1.6 * pauseMs, PAUSE_MS)) {
      try {
        // Not without any time for an answer, so that a limit of 0 means one look.
        const found = await within(this.checkpoint(), Math.max(100, deadline - performance.now()));
        if (found !== undefined) {
          isReached = found.position.includes(wanted);
          if (isReached && (!complete || (await this.#isWhole(found)))) return found;
          reason = isReached ? "documents are still owed" : "the checkpoint is before it";
        }
      } catch (error) {
        if (!isAway(error)) throw error;
        reason = `Redis is away: ${(error as Error).name}`;
      }
      const leftMs = deadline - performance.now();
      if (!(leftMs > 0)) {
        const name = JSON.stringify(this.name);
        const said = `the commit is not in ${name} after ${timeoutMs} ms: ${reason}`;
        throw new WaitTimeoutError(said, isReached);
      }
      await sleep(Math.min(pauseMs, leftMs));
    }
  }

  /** Return up to where the documents are complete; undefined where no projector has ever run. */
  async checkpoint(): Promise<Checkpoint | undefined> {
    return replies.checkpoint(
      await this.#command("HMGET", this.#key("checkpoint"), ...replies.CHECKPOINT_FIELDS),
    );
  }

  /** Return whether the documents are kept up to date. */
  async health(): Promise<Health> {
    const [checkpoint, documents] = [await this.checkpoint(), await this.count()];
    try {
      const isLed = Number(await this.#command("EXISTS", this.#key("lease"))) > 0;
      const report = await this.#command("GET", this.#key("daemon"));
      return { checkpoint, documents, isLed, lagS: isLed ? replies.lag(report) : undefined };
    } catch (error) {
      if (!isDenied(error)) throw error;
      return { checkpoint, documents, isLed: undefined, lagS: undefined };
    }
  }

  /** Return whether a projector is at work and at most so far behind. */
  async isFresh(maxLagMs = 5000): Promise<boolean> {
    const { checkpoint, isLed, lagS } = await this.health();
    return checkpoint !== undefined && isLed === true && lagS !== undefined && lagS * 1000 <= maxLagMs;
  }

  /** Whether nothing before the checkpoint is owed. What is recorded as owed later, or done by now,
   * does not concern it: hence the debts may be read after it. */
  async #isWhole(checkpoint: Checkpoint): Promise<boolean> {
    if (checkpoint.isLost) return false;
    if (checkpoint.owed === 0) return true;
    const debts = replies.list(await this.#command("HKEYS", this.#key("debts")));
    return debts.every((debt) => BACKGROUND.has(replies.text(debt)));
  }

  async #arrival({ after, timeoutMs }: ReadOptions): Promise<void> {
    if (after === undefined) return;
    await this.wait(after, timeoutMs === undefined ? {} : { timeoutMs });
  }

  async #scan(cursor: string, count: number): Promise<[string, [string, Buffer][]]> {
    const reply = await this.#command("HSCAN", this.name, cursor, "COUNT", `${count}`);
    const [following, found] = replies.list(reply);
    return [replies.text(following), replies.pairs(found)];
  }

  /** Read what a view's keys are made of; now and then, for it may be declared anew. */
  async #partsOf(view: string): Promise<readonly lists.KeyPartOfView[]> {
    const known = this.#views.get(view);
    if (known !== undefined && performance.now() < known.until) return known.parts;
    const key = this.#key("views");
    const said = await this.#command("HGET", key, lists.shortName(view));
    const named = JSON.stringify(this.name);
    if (isMissing(said)) throw new ViewError(`${named} has no view ${JSON.stringify(view)}`);
    const { parts } = JSON.parse(replies.text(said)) as { parts: lists.KeyPartOfView[] };
    for (const { fold } of parts) {
      if (fold === undefined || this.#foldings.has(fold)) continue;
      const packed = await this.#command("HGET", key, `fold:${fold}`);
      if (isMissing(packed)) throw new ViewError(`${named} has no folding ${fold}`);
      this.#foldings.set(fold, lists.parseFolding(replies.text(packed)));
    }
    this.#views.set(view, { until: performance.now() + VIEWS_MS, parts });
    return parts;
  }

  /** Run the script of a page, which writes nothing. Redis before 7 knows no such scripts. */
  async #script(given: readonly string[]): Promise<unknown> {
    for (const [byName, byText] of [["EVALSHA_RO", "EVAL_RO"], ["EVALSHA", "EVAL"]] as const) {
      try {
        return await this.#command(byName, lists.PAGE_SHA, ...given);
      } catch (error) {
        if (/NOSCRIPT/.test(String(error))) {
          return await this.#command(byText, lists.PAGE, ...given);
        }
        if (byName === "EVALSHA" || !/unknown command/i.test(String(error))) throw error;
      }
    }
    throw new Error("unreachable");
  }

  async #scanIds(cursor: string, pace: Pace): Promise<[string, string[]]> {
    if (this.#hasNovalues) {
      try {
        const args = ["HSCAN", this.name, cursor, "COUNT", `${pace.maxCount}`, "NOVALUES"] as const;
        const [following, found] = replies.list(await this.#command(...args));
        return [replies.text(following), replies.list(found).map(replies.text)];
      } catch (error) {
        if (!/syntax/i.test(String(error))) throw error;
        this.#hasNovalues = false;
      }
    }
    const [following, found] = await this.#scan(cursor, pace.count);
    pace.adapt(found);
    return [following, found.map(([id]) => id)];
  }

  *#allParsed(found: [string, Buffer][]): Generator<[string, T]> {
    for (const [id, value] of found) yield [id, this.#parsed(id, value)];
  }

  #parsed(id: string, value: unknown): T {
    try {
      return this.#parse(replies.bytes(value));
    } catch (error) {
      throw new DocumentError(this.name, id, error);
    }
  }

  #command(...args: [string, ...string[]]): Promise<unknown> {
    return this.#redis.command(args);
  }

  #key(rest: string): string {
    return `{${this.name}}:${rest}`; // the braces put the keys into the cluster slot of the hash
  }
}

/** How many documents to ask for, by the size of those that came. */
class Pace {
  readonly maxCount: number;
  readonly #maxBytes: number;
  count: number;

  constructor({ maxCount = 1000, maxBytes = 4 * 1024 * 1024 }: ScanOptions) {
    if (!(maxCount >= 1 && maxBytes >= 1)) throw new RangeError("limits must be at least 1");
    this.maxCount = Math.floor(maxCount);
    this.#maxBytes = maxBytes;
    this.count = Math.min(16, this.maxCount);
  }

  adapt(found: [string, Buffer][]): void {
    const size = found.reduce((sum, [, value]) => sum + value.length, 0);
    const fitting = size ? Math.floor((this.#maxBytes * found.length) / size) : this.maxCount;
    this.count = Math.max(1, Math.min(fitting, 4 * this.count, this.maxCount));
  }
}

function isMissing(value: unknown): boolean {
  return value === null || value === undefined;
}
