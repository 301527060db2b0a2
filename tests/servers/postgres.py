"""A PostgreSQL server as tests use it: its address, statements, and its life and death.

Logical decoding is on; nothing is flushed to the disk, so that a kill of the server loses nothing
and a crash of the machine everything. PostgreSQL refuses to run as root: for root's tests it runs
as `nobody`.
"""

import functools
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote, urlsplit

from tests.servers.cache import cache_folder, locked
from tests.servers.database import ROOT_PASSWORD
from tests.servers.docker import Container
from tests.servers.flavours import RECIPES, PostgresFlavour, ServerUnavailable
from tests.servers.process import Process, Running, free_port, new_folder, wait_until_ready
from tests.servers.programs import Image, Program, find

if TYPE_CHECKING:
    import psycopg

_SUPERUSER = "postgres"
_AS_NOBODY = ("/usr/bin/setpriv", "--reuid=nobody", "--clear-groups", "--pdeathsig=KILL")

_OPTIONS = (
    "--wal-level=logical",
    "--max-replication-slots=30",
    "--max-wal-senders=30",
    "--max-prepared-transactions=10",
    "--wal-keep-size=64MB",  # for standbys, which have no slot
    "--shared-buffers=32MB",
    "--fsync=off",
    "--dynamic-shared-memory-type=mmap",  # leaves nothing outside of its folder when killed
)


@dataclass
class PostgresServer:
    """One server; `process` is None for a server that is not ours, named in the environment."""

    flavour: PostgresFlavour
    host: str
    port: int
    user: str
    password: str
    process: Running | None

    def url(
        self,
        database: str = "helpdesk",
        *,
        user: str | None = None,
        password: str | None = None,
    ) -> str:
        """The URL as libpq and SQLAlchemy take it; the superuser's unless a user is named."""
        name, secret = (self.user, self.password) if user is None else (user, password or "")
        credentials = f"{quote(name, safe='')}:{quote(secret, safe='')}"
        return f"postgresql://{credentials}@{self.host}:{self.port}/{database}"

    def connect(self, database: str | None = None, **settings: Any) -> "psycopg.Connection[Any]":
        """A new psycopg connection as the superuser with autocommit; the settings are libpq's."""
        import psycopg

        defaults: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": database or "postgres",
            "autocommit": True,
            "connect_timeout": 10,
        }
        return psycopg.connect(**{**defaults, **settings})

    def execute(
        self, sql: str, *arguments: Any, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own; the rows."""
        with self.connect(database) as connection:
            cursor = connection.execute(sql, arguments or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description is not None else []

    @property
    def has_icu(self) -> bool:
        """Whether it was built with ICU, whose collations need not be deterministic."""
        return bool(self.execute("SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'"))

    def create_database(self, name: str) -> None:
        self.execute(f'CREATE DATABASE "{name}"')

    def drop_database(self, name: str) -> None:
        """Drop it with its replication slots, and end whoever is connected."""
        self.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
            " WHERE database = %s AND active",
            name,
        )
        self.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE database = %s",
            name,
        )
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def load_sql(self, script: Path | str, database: str) -> None:
        """Run a file, or a text, of many statements: all of them or none."""
        text = script.read_text() if isinstance(script, Path) else script
        with self.connect(database) as connection:
            connection.execute(text)  # type: ignore[arg-type]

    def start(self) -> None:
        """Start again after a stop or kill(): same port, same data. Returns once it answers."""
        own = self._own()
        own.start()
        wait_until_ready(
            own, self._answers, f"{RECIPES[self.flavour].title} on port {self.port}", 120
        )

    def stop(self) -> None:
        """Shut down cleanly ("fast"): sessions end, those who follow the log get all of it."""
        self._own().terminate()

    def stop_immediately(self) -> None:
        """Shut down without a checkpoint ("immediate"): the next start recovers from the log."""
        own = self._own()
        if not isinstance(own, PostgresProcess):
            raise ServerUnavailable("a server in Docker cannot be shut down immediately")
        own.terminate(signal.SIGQUIT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        self._own().kill()

    def pause(self) -> None:
        self._own().pause()

    def resume(self) -> None:
        self._own().resume()

    def discard(self) -> None:
        """Kill the server, if it is ours, and remove its data."""
        if self.process is not None:
            self.process.discard()

    @property
    def pid(self) -> int:
        return self._own().pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _own(self) -> Running:
        if self.process is None:
            raise ServerUnavailable(
                f"{RECIPES[self.flavour].environment} names a server that is not ours to control"
            )
        return self.process

    def _answers(self) -> bool:
        import psycopg

        try:
            self.connect(connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@dataclass
class PostgresProcess(Process):
    """A postmaster and the processes that it has forked, each in a session of its own."""

    def terminate(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: sessions are ended (SIGTERM would wait for them); SIGKILL after 20 s."""
        if self._popen is None:
            return
        self.resume()
        self._popen.send_signal(how)
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        children = self._children()
        super().kill()
        for pid in children:
            _send(pid, signal.SIGKILL)

    def pause(self) -> None:
        super().pause()
        for pid in self._children():
            _send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._children():
            _send(pid, signal.SIGCONT)
        super().resume()

    def discard(self) -> None:
        self.terminate(signal.SIGQUIT)  # a kill would leave its shared memory behind
        super().discard()

    def _children(self) -> list[int]:
        if not self.running:
            return []
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in text.split()]


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def find_postgres(flavour: PostgresFlavour = PostgresFlavour.POSTGRES) -> PostgresServer:
    """The server that the environment names for this flavour, otherwise a new private one."""
    variable = RECIPES[flavour].environment
    address = os.environ.get(variable) if variable else None
    if not address:
        return start_postgres(flavour)
    parts = urlsplit(address)
    return PostgresServer(
        flavour,
        parts.hostname or "127.0.0.1",
        parts.port or 5432,
        unquote(parts.username or _SUPERUSER),
        unquote(parts.password or ""),
        process=None,
    )


def start_postgres(
    flavour: PostgresFlavour = PostgresFlavour.POSTGRES, *, options: Sequence[str] = ()
) -> PostgresServer:
    """A new private server that answers. The options are the server's own, and win over ours.

    Raises ServerUnavailable.
    """
    program = find_program(flavour)
    port = free_port()
    if isinstance(program, Image):
        arguments = [*_OPTIONS, f"--port={port}", *options]
        process: Running = Container(
            program.name, port, arguments, {"POSTGRES_PASSWORD": ROOT_PASSWORD}
        )
    else:
        folder = open_folder(flavour.value)
        shutil.copytree(_template(flavour, program), folder / "data")
        process = server_process(program, folder, port, options)
    server = PostgresServer(flavour, "127.0.0.1", port, _SUPERUSER, ROOT_PASSWORD, process)
    server.start()
    return server


@functools.cache
def find_program(flavour: PostgresFlavour) -> Program | Image:
    """The program that runs this flavour, where those who are not root can reach it."""
    program = find(flavour)
    if isinstance(program, Image) or not _is_root() or not _is_hidden(program.file):
        return program
    here = cache_folder()
    root = here / program.file.relative_to(here).parts[0]
    folder = open_folder("program")
    copy = shutil.copytree(root, folder / root.name, symlinks=True)
    command = tuple(word.replace(str(root), str(copy)) for word in program.command)
    return Program(command, copy / program.prefix.relative_to(root))


def _is_hidden(file: Path) -> bool:
    return any(not folder.stat().st_mode & stat.S_IXOTH for folder in file.parents)


def open_folder(name: str) -> Path:
    """A throwaway folder whose contents others than root may reach by name."""
    folder = new_folder(name)
    for opened in (folder, folder.parent):
        opened.chmod(0o711)
    return folder


def server_process(
    program: Program, folder: Path, port: int, options: Sequence[str]
) -> PostgresProcess:
    """A server, not yet started, of this program on the data in `folder / "data"`."""
    give_away(folder / "data")
    command = [
        *unprivileged(program.command),
        f"-D{folder / 'data'}",
        "--listen-addresses=127.0.0.1",
        "--unix-socket-directories=",
        f"--port={port}",
        *_OPTIONS,
        *options,
    ]
    return PostgresProcess(command, folder)


def unprivileged(command: Sequence[str]) -> list[str]:
    """The command as someone who is not root."""
    return [*_AS_NOBODY, f"--regid={_nobody().pw_gid}", *command] if _is_root() else [*command]


def beside(program: Program, name: str) -> list[str]:
    """The command of another program of the same installation, as someone who is not root."""
    return unprivileged([*program.command[:-1], str(program.file.parent / name)])


def give_away(path: Path) -> None:
    """Make the file, or the folder, that of the user whom the server runs as."""
    path.chmod(0o700)
    if _is_root():
        for part in (path, *path.rglob("*")):
            os.chown(part, _nobody().pw_uid, _nobody().pw_gid)


def _is_root() -> bool:
    return os.geteuid() == 0


def _nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def _template(flavour: PostgresFlavour, program: Program) -> Path:
    """The data folder of new servers of this program, made at the first use, kept in the cache."""
    seen = program.file.stat()
    name = f"{flavour.value}-{seen.st_size:x}-{seen.st_mtime_ns:x}"
    folder = cache_folder() / "templates" / name
    with locked(f"template-{flavour.value}"):
        if not folder.is_dir():
            building = open_folder("template")
            _initialise(program, building)
            folder.parent.mkdir(exist_ok=True)
            fresh = folder.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(building / "data", fresh)
            shutil.rmtree(building)
            fresh.rename(folder)
    return folder


def _initialise(program: Program, folder: Path) -> None:
    """Make the system tables; text sorts by ICU's rules where the server has them, not by bytes."""
    data, secret = folder / "data", folder / "password"
    secret.write_text(ROOT_PASSWORD)
    give_away(secret)
    command = [*beside(program, "initdb"), f"--pgdata={data}", f"--username={_SUPERUSER}"]
    command += [f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
    said = ""
    for locale in (
        ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=und"],
        ["--locale=C.UTF-8"],
        ["--locale=C"],
    ):
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        give_away(data)
        done = subprocess.run([*command, *locale], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        said = done.stderr[-2000:]
    raise ServerUnavailable(f"{program.file} cannot make its system tables:\n{said}")
