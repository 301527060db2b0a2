/** What a failed command means. ioredis and node-redis have no error class in common: what Redis
 * itself said begins with a word in capitals, everything else is the connection's. */

import { ReaderError } from "./errors.js";

const AWAY = /^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|UNBLOCKED|BUSY)\b/;
const SAID = /^[A-Z][A-Z]+\b/;

/** Redis did not answer in time. */
export class NoAnswerError extends Error {
  override readonly name = "NoAnswerError";
}

/** Return whether the server may answer again by itself: restart, failover, busy, loading. */
export function isAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const isOurs = [ReaderError, TypeError, RangeError, SyntaxError].some((c) => error instanceof c);
  if (isOurs) return false;
  return AWAY.test(error.message) || !SAID.test(error.message);
}

/** Return whether this user may not do so. */
export function isDenied(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("NOPERM");
}

/** Wait for an answer for so long; then throw NoAnswerError. */
export async function within<R>(answer: Promise<R>, limitMs: number): Promise<R> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const ms = Math.min(limitMs, 2 ** 31 - 1); // setTimeout takes no more
    timer = setTimeout(() => reject(new NoAnswerError("no answer in time")), ms);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
    answer.catch(() => undefined);
  }
}
