"""What all decoders of the log raise for bytes that cannot be what they claim to be."""


class DamagedEventError(ValueError):
    """An event that contradicts itself: cut, damaged, or of an unknown layout."""
