"""The connection that brings the log: framing, keepalives, confirmations.

Layouts: PostgreSQL manual, 55.4 "Streaming Replication Protocol". A status goes to the server at
least every third of its patience, also while nothing can be handed on: it would end the stream.
Confirms only what it was told is durable.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from struct import Struct
from typing import Final

from projector.errors import TransientError
from projector.postgres.connection import Session, translated
from projector.postgres.errors import PEER, SILENT
from projector.postgres.names import identifier, quoted
from projector.postgres.pgoutput import EPOCH_S, Assembler
from projector.postgres.position import lsn_text

_STATUS = Struct(">cQQQqB").pack
_KEEPALIVE = Struct(">xQqB").unpack_from
_DATA: Final = ord("w")
_BEAT: Final = ord("k")
_DATA_HEAD: Final = 25  # 'w', start, end, clock
_MOST_STATUS_S: Final = 10.0
_AT_ONCE: Final = 2000  # messages, before looking whether it is time for something else


class Stream:
    """One START_REPLICATION, to its end. For one thread; `wake` and `confirm` for any."""

    def __init__(
        self, session: Session, assembler: Assembler, patience_s: float, status_every_s: float
    ) -> None:
        self._session, self._assembler, self._patience_s = session, assembler, patience_s
        self._status_every_s = min(status_every_s, _MOST_STATUS_S)
        self._confirmed = 0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._status_at = 0.0
        self._heard_at = time.monotonic()
        self.server_end = 0  # up to where the server has read its log for us
        self.clock_offset_s = 0.0

    def start(self, slot: str, publication: str, lsn: int) -> None:
        """Ask for the log after `lsn`. Raises TransientError or RefusedError."""
        [[timeout]] = self._session.ask(
            "SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'"
        )
        if int(timeout):
            self._status_every_s = min(self._status_every_s, int(timeout) / 3000)
        self._session.begin_copy(
            f"START_REPLICATION SLOT {identifier(slot)} LOGICAL {lsn_text(lsn)}"
            f" (proto_version '1', publication_names {quoted(identifier(publication))},"
            " messages 'true')"
        )

    def confirm(self, lsn: int) -> None:
        """Let the server forget what lies before `lsn`."""
        self._confirmed = max(self._confirmed, lsn)

    def wake(self) -> None:
        """Let `run` look at what has changed."""
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            pass

    def run(self, on_idle: Callable[[], float], is_ending: Callable[[], bool]) -> None:
        """Read until told to end; `on_idle` is called whenever nothing is left to read, and says
        how long to wait. Raises what the server says at the end of its log."""
        self._heard_at = time.monotonic()
        while not is_ending():
            with translated():
                size = self._take()
            if size == -1:
                raise self._session.end_of_copy()
            self.send_status()
            if size == 0:
                self._wait(on_idle())

    def close(self) -> None:
        """Free the pipe; the session is closed by whoever opened it."""
        os.close(self._wake_read)
        os.close(self._wake_write)

    def send_status(self, *, now: bool = False) -> None:
        """Tell the server that we live, if it is time; also while nothing can be handed on."""
        if not now and time.monotonic() - self._status_at < self._status_every_s:
            return
        self._status_at = time.monotonic()
        lsn = self._confirmed
        micros = int((time.time() - EPOCH_S) * 1e6)
        with translated():
            self._session.raw.put_copy_data(_STATUS(b"r", lsn, lsn, lsn, micros, 1))
            self._session.raw.flush()

    def _take(self) -> int:
        """Take what has come, but not for ever; return 0 where all is taken, -1 at the end."""
        get, take = self._session.raw.get_copy_data, self._assembler.take
        size = 0
        for _ in range(_AT_ONCE):
            size, view = get(1)
            if size <= 0:
                break
            data = bytes(view)
            if data[0] == _DATA:
                take(data, _DATA_HEAD)
            elif data[0] == _BEAT:
                self._take_keepalive(data)
        return int(size)

    def _wait(self, seconds: float) -> None:
        """Wait for more. A server that lets nothing be heard for long is none: it answers each
        status."""
        file = self._session.raw.socket
        poll = select.poll()
        poll.register(file, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        ready = dict(poll.poll(min(seconds, self._status_every_s) * 1000))
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if file in ready:
            self._heard_at = time.monotonic()
            self._session.read()
        elif time.monotonic() - self._heard_at > self._patience_s:
            raise TransientError(PEER, SILENT)

    def _take_keepalive(self, data: bytes) -> None:
        end, micros, wants_answer = _KEEPALIVE(data)
        self.server_end = max(self.server_end, end)
        self.clock_offset_s = EPOCH_S + micros / 1e6 - time.time()
        if wants_answer:
            self.send_status(now=True)
