"""Streaming standbys of private PostgreSQL servers."""

import os
import subprocess
import time
from collections.abc import Sequence

from tests.servers.flavours import ServerUnavailable
from tests.servers.postgres import (
    PostgresServer,
    beside,
    find_program,
    give_away,
    open_folder,
    server_process,
)
from tests.servers.process import free_port
from tests.servers.programs import Image


def start_standby(
    primary: PostgresServer, *, options: Sequence[str] = (), name: str = "standby"
) -> PostgresServer:
    """A new standby of a private server that has caught up when this returns.

    `name` is what the primary sees (`synchronous_standby_names`). It is promoted by
    `SELECT pg_promote()`.
    """
    program = find_program(primary.flavour)
    if isinstance(program, Image):
        raise ServerUnavailable("a standby is not made in Docker; install PostgreSQL")
    folder = open_folder("standby")
    data = folder / "data"
    data.mkdir()
    give_away(data)
    address = (  # the database is for those that keep their primary's slots, from 17 on
        f"host={primary.host} port={primary.port} user={primary.user} dbname=postgres"
        f" application_name={name}"
    )
    done = subprocess.run(
        [
            *beside(program, "pg_basebackup"),
            f"--pgdata={data}",
            f"--dbname={address}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        ],
        env={**os.environ, "PGPASSWORD": primary.password},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServerUnavailable(f"pg_basebackup failed: {done.stderr[-2000:]}")
    port = free_port()
    process = server_process(program, folder, port, options)
    standby = PostgresServer(
        primary.flavour, "127.0.0.1", port, primary.user, primary.password, process
    )
    standby.start()
    wait_for_standby(primary, standby)
    return standby


def wait_for_standby(
    primary: PostgresServer, standby: PostgresServer, timeout_s: float = 60
) -> None:
    """Wait until the standby has applied all that the primary committed; else TimeoutError."""
    primary.execute("SELECT pg_logical_emit_message(true, 'tests', '')")  # flushes what came before
    target = primary.execute("SELECT pg_current_wal_flush_lsn()::text")[0][0]
    deadline = time.monotonic() + timeout_s
    reached = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    while not standby.execute(reached, target)[0][0]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the standby has not reached {target} within {timeout_s:g} s")
        time.sleep(0.02)
