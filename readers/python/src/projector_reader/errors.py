"""What can go wrong besides Redis itself, whose client's errors come through as they are.

No message contains a value of a document.
"""


class ReaderError(Exception):
    """The root of this package's errors."""


class InvalidTokenError(ReaderError, ValueError):
    """A token, or an id of the change stream, that no database or stream has given."""


class NotComparableError(ReaderError):
    """A token and the checkpoint come from different kinds of log, from different servers without
    common GTIDs, or (PostgreSQL) from before and after a promotion: no waiting would ever tell."""


class WaitTimeoutError(ReaderError, TimeoutError):
    """The commit was not in the documents in time.

    `is_reached`: the checkpoint has passed the commit, but work is owed behind it (see
    `Reader.wait`), so that documents may still lack it.
    """

    def __init__(self, message: str, *, is_reached: bool) -> None:
        super().__init__(message)
        self.is_reached = is_reached


class ChangesLostError(ReaderError):
    """Changes after `last_id` have left the stream, or the stream itself has been lost.

    Whatever was made of the documents is to be made again from all of them; changes from
    `resume_from` on cover everything that happens meanwhile.
    """

    def __init__(self, message: str, *, last_id: str, resume_from: str) -> None:
        super().__init__(message)
        self.last_id = last_id
        self.resume_from = resume_from


class ViewError(ReaderError, ValueError):
    """A view that the projection does not have, or values that cannot be its key."""


class DocumentError(ReaderError, ValueError):
    """The user's model refuses a document; the model's own error is the cause."""

    def __init__(self, name: str, document_id: str) -> None:
        super().__init__(f"document {document_id!r} of {name!r} does not fit the model")
        self.document_id = document_id
