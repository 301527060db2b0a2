"""Logs: one structured line an event, on standard error, for people or for machines.

Never a URL with its credentials, whoever logs it; times are UTC. The level can be changed while
the process runs: SIGUSR1 switches debug lines on and off. Warnings and errors of libraries come
out in the same form.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from projector.settings import Log

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Greedy up to the last @ of the word: passwords hold unescaped slashes and at signs.
_URL_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://)[^\s\"'<>]*@")
_NAMED_SECRET = re.compile(
    r"(?i)(passwords?|passwd|pwd|secret|token)(['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s&,;)'\"]+)"
)

_log = structlog.get_logger(__name__)


class _Threshold:
    """The least level that is written, and the configured one, to which SIGUSR1 comes back."""

    def __init__(self) -> None:
        self.configured = self.current = "info"

    def toggle_debug(self) -> str:
        """Switch debug lines on or off; the name of the new level."""
        usual = "info" if self.configured == "debug" else self.configured
        self.current = usual if self.current == "debug" else "debug"
        return self.current

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Drop a line below the level."""
        if _LEVELS.get(method, _LEVELS["error"]) < _LEVELS[self.current]:
            raise structlog.DropEvent
        return event


_threshold = _Threshold()


class _Lines:
    """Writes lines to standard error; one that cannot be written (a full disk, a closed pipe) is
    lost and counted, and never the end of whoever logged it."""

    lost = 0

    def msg(self, line: str) -> None:
        """Write a line past all buffers: what a full disk left there would be written twice, or
        spoil the exit status."""
        try:
            _write(f"{line}\n")
        except (OSError, ValueError, AttributeError):  # a full disk, a closed file, none at all
            _Lines.lost += 1
        else:
            _Lines.lost = 0

    debug = info = warning = error = critical = exception = log = msg


def _write(text: str) -> None:
    try:
        descriptor = sys.stderr.fileno()
    except OSError:  # swapped for a stream in memory
        sys.stderr.write(text)
        return
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


class _FromLibraries(logging.Handler):
    """Hands the records of libraries that use `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, 10), 40)
        message = record.getMessage()
        structlog.get_logger().log(level, message, logger=record.name, exc_info=record.exc_info)


def configure(settings: Log) -> None:
    """Send the logs of this process and of its libraries to standard error as `settings` say."""
    _threshold.configured = _threshold.current = settings.level
    structlog.configure(
        processors=[_threshold, *_rendering(settings.format)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["debug"]),
        # Looked up for each line: whoever swaps standard error gets the lines from then on.
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_FromLibraries()], force=True)
    logging.captureWarnings(True)


def switch_level_on_signal() -> None:
    """Make SIGUSR1 switch debug lines on and off. Call from the main thread, after `configure`."""
    signal.signal(signal.SIGUSR1, _on_signal)


def redact(text: str) -> str:
    """Return `text` with the credentials of URLs and values named like secrets as `***`."""
    return _NAMED_SECRET.sub(r"\1\2***", _URL_CREDENTIALS.sub(r"\1***@", text))


class BatchLog:
    """The canonical line of each batch, at most `per_second` of them.

    What was left out is added up and told with the next line written: `left_out_batches` and a
    `left_out_` sum for each number that adds up. Nothing is lost from the sums.
    """

    def __init__(self, per_second: int = 5, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._second = -1
        self._written = 0
        self._left_out: Counter[str] = Counter()

    def applied(self, sums: Mapping[str, int], **facts: Any) -> None:
        """Log a batch. `sums` are the numbers that add up (transactions, documents, ...), `facts`
        the others (position, lag_s, seconds)."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= self._per_second:
            self._left_out.update({"batches": 1, **sums})
            return
        self._written += 1
        _log.info("batch applied", **sums, **facts, **self._take_left_out())

    def flush(self) -> None:
        """Tell what was left out since the last line, if anything: call when the log falls idle."""
        if self._left_out:
            _log.info("batches applied", **self._take_left_out())

    def _take_left_out(self) -> dict[str, int]:
        taken = {f"left_out_{name}": number for name, number in self._left_out.items()}
        self._left_out.clear()
        return taken


def _rendering(form: str) -> list[Processor]:
    # Tracebacks become text before redaction and never show local variables: those hold rows.
    if form == "json":
        renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
        _tell_lost,
        renderer,
    ]


def _redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: _redacted(value) for key, value in event.items()}


def _tell_lost(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say with a line how many before it could not be written."""
    return {**event, "lines_lost": _Lines.lost} if _Lines.lost else event


def _redacted(value: object) -> object:
    match value:
        case str():
            return redact(value)
        case bool() | int() | float() | None:
            return value
        case Mapping():
            return {str(key): _redacted(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redacted(inner) for inner in value]
        case _:
            return redact(str(value))


def _on_signal(_number: int, _frame: object) -> None:
    """Switch, and say so past the usual stream: that one may be in the middle of a line."""
    event: Any = {"event": "log level changed", "log_level": _threshold.toggle_debug()}
    for processor in structlog.get_config()["processors"][1:]:
        event = processor(None, "info", event)
    try:
        os.write(sys.stderr.fileno(), f"{event}\n".encode())
    except (OSError, ValueError, AttributeError):
        pass  # as for any other line
