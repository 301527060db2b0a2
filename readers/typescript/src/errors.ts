/** What can go wrong besides Redis itself, whose client's errors come through as they are. No
 * message contains a value of a document. */

/** The root of this package's errors. */
export class ReaderError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A token, or an id of the change stream, that no database or stream has given. */
export class InvalidTokenError extends ReaderError {}

/** A token and the checkpoint come from different kinds of log, from different servers without
 * common GTIDs, or (PostgreSQL) from before and after a promotion: no waiting would ever tell. */
export class NotComparableError extends ReaderError {}

/** The commit was not in the documents in time. `isReached`: the checkpoint has passed the commit,
 * but work is owed behind it (see `Reader.wait`), so that documents may still lack it. */
export class WaitTimeoutError extends ReaderError {
  constructor(
    message: string,
    readonly isReached: boolean,
  ) {
    super(message);
  }
}

/** Changes after `lastId` have left the stream, or the stream itself has been lost. Whatever was
 * made of the documents is to be made again from all of them; changes from `resumeFrom` on cover
 * everything that happens meanwhile. */
export class ChangesLostError extends ReaderError {
  constructor(
    message: string,
    readonly lastId: string,
    readonly resumeFrom: string,
  ) {
    super(message);
  }
}

/** A view that the projection does not have, or values that cannot be its key. */
export class ViewError extends ReaderError {}

/** The user's `parse` refuses a document; its own error is the cause. */
export class DocumentError extends ReaderError {
  constructor(
    name: string,
    readonly documentId: string,
    cause: unknown,
  ) {
    super(`document ${JSON.stringify(documentId)} of ${JSON.stringify(name)} cannot be parsed`, {
      cause,
    });
  }
}
