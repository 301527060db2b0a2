/** Read the documents that the projector keeps in Redis, and wait for one's own write. */
export { type Commands, type IoredisLike, type NodeRedisLike, commandsOf } from "./client.js";
export {
  ChangesLostError,
  DocumentError,
  InvalidTokenError,
  NotComparableError,
  ReaderError,
  WaitTimeoutError,
} from "./errors.js";
export { type DocumentKey, type KeyPart, documentId } from "./ids.js";
export { Position } from "./position.js";
export { type Change, type Checkpoint, type Health, type Page } from "./replies.js";
export { type ChangesOptions, type ReadOptions, type ScanOptions, Reader } from "./reader.js";
export { commitToken, ownGtid } from "./tokens.js";
