/** What Redis answers, as values, whatever form the client gives it (RESP2, RESP3, Buffers). */
import { Position } from "./position.js";

/** Up to where the documents are complete.
 *
 * `committedAt`: when the last commit that was applied took place; on an idle database it stays.
 * `updatedAt`: when the checkpoint was last written. `owed`: pieces of work recorded beside it, of
 * which those in the background concern nobody. `isLost`: documents are gone by other hands, and
 * will be written again. */
export interface Checkpoint {
  readonly position: Position;
  readonly committedAt: Date | undefined;
  readonly updatedAt: Date | undefined;
  readonly owed: number;
  readonly isLost: boolean;
}

/** Whether the documents are kept up to date.
 *
 * `isLed`: a projector holds the lease now. `lagS`: what it said of its lag last. Both are undefined
 * where this user may not read them (deploy/redis.acl has a user who may). */
export interface Health {
  readonly checkpoint: Checkpoint | undefined;
  readonly documents: number;
  readonly isLed: boolean | undefined;
  readonly lagS: number | undefined;
}

/** One write of the projector: the ids of documents written and removed. `id` is the place to go on
 * from. A heartbeat has no ids. */
export interface Change {
  readonly id: string;
  readonly written: readonly string[];
  readonly removed: readonly string[];
}

/** Some documents by id, in no order. `cursor` asks for the next ones; "0": that was all. */
export interface Page<T> {
  readonly cursor: string;
  readonly documents: Map<string, T>;
}

export const CHECKPOINT_FIELDS = ["position", "committed_at", "updated_at", "owed", "lost"];

/** Read the values of CHECKPOINT_FIELDS; undefined when there is no checkpoint. */
export function checkpoint(reply: unknown): Checkpoint | undefined {
  const [position, committedAt, updatedAt, owed, lost] = list(reply).map((value) =>
    value === null || value === undefined ? undefined : text(value),
  );
  if (!position) return undefined;
  return {
    position: Position.parse(position),
    committedAt: moment(committedAt),
    updatedAt: moment(updatedAt),
    owed: Number(owed ?? 0),
    isLost: lost === "1",
  };
}

/** Read the lag out of the daemon's report on itself. */
export function lag(report: unknown): number | undefined {
  try {
    const found: unknown = JSON.parse(text(report)).lag_s;
    return typeof found === "number" ? found : undefined;
  } catch {
    return undefined;
  }
}

/** Read what XREAD says of one stream. */
export function changes(reply: unknown): Change[] {
  if (reply === null || reply === undefined) return [];
  // RESP3: a map of streams, which some clients flatten; RESP2: a list of pairs.
  if (reply instanceof Map) return entries([...reply.values()][0]);
  if (!Array.isArray(reply)) return entries(Object.values(reply as object)[0]);
  if (reply.length === 0) return [];
  return entries(Array.isArray(reply[0]) ? reply[0][1] : reply[1]);
}

/** Read the ids of what XRANGE or XREVRANGE found. */
export function entryIds(reply: unknown): string[] {
  return list(reply).map((entry) => text(list(entry)[0]));
}

/** Return a list of names and values as pairs. */
export function pairs(reply: unknown): [string, Buffer][] {
  const found: [string, Buffer][] = [];
  if (reply instanceof Map) {
    for (const [name, value] of reply) found.push([text(name), bytes(value)]);
    return found;
  }
  const flat = list(reply);
  for (let at = 0; at + 1 < flat.length; at += 2) found.push([text(flat[at]), bytes(flat[at + 1])]);
  return found;
}

/** Return a reply as a list. */
export function list(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : [];
}

/** Return a reply as text. */
export function text(value: unknown): string {
  return Buffer.isBuffer(value) ? value.toString() : String(value);
}

/** Return a reply as bytes. */
export function bytes(value: unknown): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.from(String(value));
}

function entries(found: unknown): Change[] {
  return list(found).map((entry) => {
    const [id, fields] = list(entry);
    const named = new Map(pairs(fields));
    return {
      id: text(id),
      written: ids(named.get("written")),
      removed: ids(named.get("removed")),
    };
  });
}

function ids(value: Buffer | undefined): string[] {
  return value === undefined ? [] : (JSON.parse(value.toString()) as string[]);
}

function moment(seconds: string | undefined): Date | undefined {
  return seconds ? new Date(Number(seconds) * 1000) : undefined;
}
