/** Read the documents that the projector keeps in Redis, and wait for one's own write. */
export { type Commands, type IoredisLike, type NodeRedisLike, commandsOf } from "./client.js";
export {
  ChangesLostError,
  DocumentError,
  InvalidTokenError,
  NotComparableError,
  ReaderError,
  ViewError,
  WaitTimeoutError,
} from "./errors.js";
export { type DocumentKey, type KeyPart, documentId } from "./ids.js";
export { type Listed, type ListValue } from "./lists.js";
export { Position } from "./position.js";
export { type Change, type Checkpoint, type Health, type Page } from "./replies.js";
export { type ChangesOptions, type ListOptions, type ReadOptions, type ScanOptions, Reader } from "./reader.js";
export { commitToken, ownGtid } from "./tokens.js";
