"""What all decoders of the log raise for bytes that cannot be what they claim to be."""


class DamagedEventError(ValueError):
    """An event that contradicts itself: cut, damaged, or of an unknown layout."""


class UnlikeValueError(DamagedEventError):
    """Bytes of rows that are no value of the type which their column has by now: it may have had
    another one when they were logged."""
