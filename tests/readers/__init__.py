"""The two reader packages: against the projector's own values, and against live servers."""
