"""One world on one server: made from its number, followed by the daemon, and judged."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pymysql
from pymysql.converters import conversions
from sqlalchemy.engine import make_url

from tests.abroad.worlds import declarations, module, oracle, schemas, settings
from tests.abroad.worlds.breaking import Breaker
from tests.abroad.worlds.grammar import Grammar
from tests.abroad.worlds.judging import differences
from tests.abroad.worlds.plan import Judged, Plan, Verdict
from tests.abroad.worlds.schemas import Table
from tests.abroad.worlds.spec import Level
from tests.faults.faults import REWINDS
from tests.faults.stage import NOTICED_S
from tests.nursery import Nursery
from tests.projector_process import Projector, committed, is_settled
from tests.servers import DatabaseServer, Flavour, RedisServer, TcpProxy
from tests.servers.account import documented_account
from tests.servers.refusing import RefusingProxy

SETTLE_S = 40.0
_PATIENCE_S = 4.0  # with a declaration that may be senseless
Fault = Callable[[Any, Random], None]
# Deadlock, lock wait, changed definition, kill, connections, limits of time, lost connection.
_PASSING = (1213, 1205, 1412, 1317, 1040, 1969, 3024, 2013, 1146, 1054, 1290, 0)
_ENCODERS = {kind: write for kind, write in conversions.items() if isinstance(kind, type)}
_INCOMPARABLE = ("refused (1267:", "refused (3854:")  # collations, character sets: for good
_IMPATIENT = {
    "PROJECTOR_{}__CONNECT_TIMEOUT_S": "2",
    "PROJECTOR_{}__READ_TIMEOUT_S": "3",
    "PROJECTOR_REDIS__TIMEOUT_S": "1",
    "PROJECTOR_REDIS__LEASE_TTL_S": "2",
}


@dataclass
class World:
    """A schema, its projections, a daemon. `log` is what was run on it, for the report."""

    plan: Plan
    database: DatabaseServer
    redis_server: RedisServer
    nursery: Nursery | None = None
    faults: Sequence[Fault] = ()
    number: int = 0  # of the Redis database
    is_folding: bool = False
    log: list[str] = field(default_factory=list)
    started: int = 0

    section: ClassVar[str] = "MYSQL"  # of the daemon's settings
    refusals: ClassVar[type[Exception]] = pymysql.err.MySQLError
    incomparable: ClassVar[tuple[str, ...]] = _INCOMPARABLE

    def play(self) -> Verdict:
        """Live through the whole world; give the verdict."""
        began = time.monotonic()
        verdict = Verdict(self.plan.seed, str(self.database.flavour), "right")
        self.name = f"abroad_{self.plan.seed}"
        with contextlib.ExitStack() as stack:
            try:
                self._make(stack)
                self._live()
                verdict.documents = self.documents
            except Judged as judged:
                verdict.word, verdict.detail = judged.word, judged.detail
        verdict.seconds = time.monotonic() - began
        return verdict

    # Making.

    def _make(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.documents = 0
        self.root = stack.enter_context(contextlib.closing(self._connect(None)))
        self.database.drop_database(self.name)
        self.database.create_database(self.name)
        stack.callback(self._drop)
        self.root = stack.enter_context(contextlib.closing(self._connect(self.name)))
        flavour = self.database.flavour
        self.schema = schemas.generate(self.plan.chance, flavour, self.is_folding)
        self._create()
        self.grammar = Grammar(
            self.plan.chance("history"), self.schema, flavour, self.name,
            absences=self.plan.chance("absences").random() < 0.9,
        )  # fmt: skip
        self.log.append("-- first rows")
        for statement in self.grammar.fill():
            self._run(self.root, statement)
        self._declare(stack)
        self._start_parts(stack)
        self._globals(stack)

    def _drop(self) -> None:
        with contextlib.closing(self._connect(None)) as connection:
            self._end_prepared(connection, but="")
            self._rows(connection, f"DROP DATABASE IF EXISTS `{self.name}`")

    def _globals(self, stack: contextlib.ExitStack) -> None:
        chosen = settings.choose(self.plan.chance, self.database.flavour)
        changed = settings.Globals(self._connect)
        stack.callback(changed.restore)
        self.settings = changed.apply(chosen)
        self.log += [f"SET GLOBAL {name} = '{value}'" for name, value in self.settings.items()]

    def _connect(self, name: str | None, charset: str = "utf8mb4") -> Any:
        connection = self.database.connect(name, conv=_ENCODERS, charset=charset)
        with connection.cursor() as cursor:
            for statement in oracle.SESSION:
                with contextlib.suppress(pymysql.err.MySQLError):
                    cursor.execute(statement)
        return connection

    def _create(self) -> None:
        """Create what the server takes; a table that it does not take is left out."""
        taken = []
        for table in self.schema.tables:
            if self._try(self.root, table.definition) is None:
                taken.append(table)
        self.schema.tables[:] = taken
        extras = [extra for extra in self.schema.extras if self._try(self.root, extra) is None]
        self.schema.extras[:] = extras
        if not self.schema.watched:
            raise Judged("skipped", "the server takes no table")

    def _declare(self, stack: contextlib.ExitStack) -> None:
        random = self.plan.chance("declarations")
        self.specs: list[Level] = []
        for number in range(random.choice([1, 1, 2, 3])):
            name = f"w{self.plan.seed}_{number}"
            spec = declarations.generate(random, name, self.schema, self._accepts)
            if all(map(self._accepts, statements(spec))):
                self.specs.append(spec)
        if not self.specs:
            raise Judged("skipped", "the server takes no declaration")
        self.text = module.write(random, self.specs)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="abroad-")))
        (folder / f"{self.name}.py").write_text(self.text)
        self.folder = folder

    def _accepts(self, sql: str) -> bool:
        try:
            with self.root.cursor() as cursor:
                cursor.execute(sql)
        except self.refusals as error:
            self.log.append(f"-- {error}: {sql}")
            return False
        return True

    def _start_parts(self, stack: contextlib.ExitStack) -> None:
        random = self.plan.chance("daemon")
        url = self._account(stack)
        self.redis = self.redis_server.client(db=self.number)
        stack.callback(self.redis.close)
        self.redis.flushdb()
        self.to_mysql = self._proxy()(self.database.host, self.database.port)  # the database's
        stack.callback(self.to_mysql.close)
        self.to_redis = TcpProxy(self.redis_server.host, self.redis_server.port)
        stack.callback(self.to_redis.close)
        self._environment = self._settings_of_the_daemon(url, random)
        self.daemon = self.another()
        stack.push(self.daemon.__exit__)
        self.breaker = Breaker(self.to_redis, self.daemon, self.plan.chance("breaks"))

    def _account(self, stack: contextlib.ExitStack) -> str:
        """Make the daemon's account; its URL."""
        whole, further = settings.grants(
            self.plan.chance("account"), self.schema, self.name, self.text, self.specs
        )
        self.log += further
        url = documented_account(
            self.database, self.name, whole, grants=further, name=f"p_{self.plan.seed}"
        )
        stack.callback(self.database.execute, f"DROP USER IF EXISTS 'p_{self.plan.seed}'@'%'")
        return url

    def _proxy(self) -> type[TcpProxy]:
        """What stands between the daemon and the database."""
        refuses = self.plan.chance("refusals").random() < 0.2 and not self.faults
        return RefusingProxy if refuses else TcpProxy

    def another(self) -> Projector:
        """A further daemon with the same settings, not started."""
        urls = self._environment
        url = urls[f"PROJECTOR_{self.section}__URL"]
        daemon = Projector(url, urls["PROJECTOR_REDIS__URL"], **urls)
        daemon.nursery = self.nursery
        return daemon

    @property
    def names(self) -> list[str]:
        """The hashes."""
        return [spec.name for spec in self.specs]

    def _settings_of_the_daemon(self, url: str, random: Random) -> dict[str, str]:
        names = ",".join(f"{self.name}:{spec.name}" for spec in self.specs)
        through = make_url(url).set(host=self.to_mysql.host, port=self.to_mysql.port)
        return {
            f"PROJECTOR_{self.section}__URL": through.render_as_string(hide_password=False),
            "PROJECTOR_REDIS__URL": f"redis://127.0.0.1:{self.to_redis.port}/{self.number}",
            "PYTHONPATH": str(self.folder),
            "ABROAD_MASK_KEY": oracle.MASK_KEY,
            "PROJECTOR_PROJECTION": names,
            f"PROJECTOR_{self.section}__HEARTBEAT_S": "0.2",
            "PROJECTOR_REDIS__LEASE_TTL_S": "1",
            **({k.format(self.section): v for k, v in _IMPATIENT.items()} if self.faults else {}),
            "PROJECTOR_RECONCILE__SCRUB_INTERVAL_S": "0",
            "PROJECTOR_FANOUT_MAX_DOCUMENTS": random.choice(["1", "3", "2000"]),
            "PROJECTOR_RECONCILE__CHUNK_DOCUMENTS": random.choice(["1", "3", "1000"]),
            "PROJECTOR_BATCH_MAX_DOCUMENTS": random.choice(["1", "5", "500"]),
        }

    # Living.

    def _live(self) -> None:
        """Build under changes; follow; be killed meanwhile; be away while much happens."""
        random = self.plan.chance("life")
        definitions = random.choice([0.0, 0.1, 0.3])
        if self.faults:
            self._suffer(random, definitions)
            return
        breaks = self.plan.chance("breaks").random() < 0.3
        self.daemon.start()
        for steps in (random.choice([0, 10]), random.choice([15, 30])):
            if breaks:
                self.breaker.arm()
            self._write(steps, definitions, random)
            self._check()
            self._refuse(self.plan.chance("refused"))
        if self.plan.chance("kills").random() < 0.5:
            self._write(8, definitions, random)
            forgotten = self._forget(self.plan.chance("xa-pending"))
            self._end(random)
            self._write(random.choice([5, 20]), definitions, random)
            self._lose_log(self.plan.chance("log-lost"))
            self.daemon.start()
            self._write(random.choice([0, 8]), definitions, random)
            for statement in forgotten:
                self._try(self.root, statement)
            self._check()
        if self.plan.chance("verify").random() < 0.1:
            self._verify()

    def _forget(self, random: Random) -> list[str]:
        """Prepare a transaction at times; give what ends it."""
        if random.random() > 0.2:
            return []
        statements, ends = self.grammar.pending()
        with contextlib.closing(self._connect(self.name)) as connection:
            refused = [self._try(connection, statement) for statement in statements]
        if any(code is not None for code in refused):
            return ends[1:]
        return [random.choice(ends)]

    def _lose_log(self, random: Random) -> None:
        """Take the log that the daemon needs away, or all of it."""
        if random.random() > 0.12:
            return
        if random.random() < 0.5:
            self._try(self.root, "FLUSH BINARY LOGS")
            last = self.database.execute("SHOW BINARY LOGS")[-1][0]
            self._try(self.root, f"PURGE BINARY LOGS TO '{last}'")
        elif self.database.flavour is Flavour.MYSQL:
            self._try(self.root, "RESET BINARY LOGS AND GTIDS")
        else:
            self._try(self.root, "RESET MASTER")

    def _verify(self) -> None:
        """The product's own comparison agrees."""
        if isinstance(self.to_mysql, RefusingProxy):
            self.to_mysql.relent()
        for spec in self.specs:
            done = self.daemon.run("verify", "--projection", spec.name)
            is_right = " 0 missing, 0 stale, 0 orphan" in done.stdout  # 1: rows without a document
            if done.returncode != 0 and not (done.returncode == 1 and is_right):
                said = f"{done.stdout}{done.stderr}"[-1500:]
                raise Judged("wrong", f"verify of {spec.name}: {done.returncode}\n{said}")

    def _refuse(self, random: Random) -> None:
        """Have some of the daemon's next queries answered with errors that pass."""
        if isinstance(self.to_mysql, RefusingProxy):
            for code in random.sample(_PASSING, 3):
                self.to_mysql.refuse(code, times=random.choice([1, 2, 5]), chance=0.05)

    def _suffer(self, random: Random, definitions: float) -> None:
        """All faults but the last under load, the last in silence: no later write mends it."""
        self.daemon.start()
        time.sleep(random.uniform(0, 2))
        stopped = threading.Event()
        writer = threading.Thread(target=self._write_until, args=(stopped, definitions, random))
        writer.start()
        try:
            for fault in self.faults[:-1]:
                time.sleep(random.uniform(0.2, 1.5))
                self._do(fault, random)
        finally:
            stopped.set()
            writer.join()
        self._do(self.faults[-1], random)
        self.root = self._stack.enter_context(contextlib.closing(self._connect(self.name)))
        self._mend()
        self._check()

    def _do(self, fault: Fault, random: Random) -> None:
        self._expect_alive()
        self.log.append(f"-- fault: {fault.__name__}")
        try:
            fault(self, random)
        except AssertionError as error:
            self._expect_alive()
            raise Judged("ended", f"{fault.__name__}: {error}\n{self._log_tail()}") from None

    def _write_until(self, stopped: threading.Event, definitions: float, random: Random) -> None:
        while not stopped.is_set():
            with contextlib.suppress(self.refusals, OSError):
                self._write(5, definitions, random)

    def _end(self, random: Random) -> None:
        if random.random() < 0.7 or self.breaker.has_struck:
            self.daemon.kill()
        elif (code := self.daemon.stop(20)) != 0 and not self.breaker.has_struck:
            raise Judged("ended", f"exit {code} after SIGTERM\n{self._log_tail()}")
        self.breaker.disarm()

    def _write(self, steps: int, definitions: float, random: Random) -> None:
        """Run steps of the grammar, on new connections now and then."""
        left = steps
        while left > 0:
            charset = random.choice(["utf8mb4"] * 6 + ["latin1", "cp1251"])
            with contextlib.closing(self._connect(self.name, charset)) as connection:
                for statement in self.grammar.session():
                    self._run(connection, statement)
                for _ in range(min(left, random.choice([3, 6, 12]))):
                    left -= 1
                    for statement in self.grammar.step(definitions):
                        self._run(connection, statement)
                    self._leave_nothing_open(connection)
        self._mend()

    def _leave_nothing_open(self, connection: Any) -> None:
        with contextlib.suppress(pymysql.err.MySQLError), connection.cursor() as cursor:
            cursor.execute("UNLOCK TABLES")
        with contextlib.suppress(pymysql.err.MySQLError), connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
        self._end_prepared(connection, but="pending")

    def _end_prepared(self, connection: Any, but: str) -> None:
        """Roll transactions back that were prepared, but for those whose names begin so."""
        with contextlib.suppress(pymysql.err.MySQLError), connection.cursor() as cursor:
            cursor.execute("XA RECOVER")
            for row in cursor.fetchall():
                name = row[3].decode() if isinstance(row[3], bytes) else row[3]
                if not but or not name.startswith(but):
                    cursor.execute(f"XA ROLLBACK '{name}'")

    def _mend(self) -> None:
        """Put back what a refused statement left half done."""
        with contextlib.closing(self._connect(self.name)) as connection:
            self._leave_nothing_open(connection)
            there = {row[0].lower() for row in self._rows(connection, "SHOW TABLES")}
            for table in self.schema.watched:
                missing = table.name.lower() not in there
                for name in ("away", "old_one", "new_one"):
                    if missing and name in there:
                        back = f"RENAME TABLE `{name}` TO `{table.name}`"
                        missing = self._try(connection, back) is not None
                if missing:
                    raise Judged("skipped", f"{table.name} is gone")
                self._mend_columns(connection, table)

    def _mend_columns(self, connection: Any, table: Table) -> None:
        found = {row[0] for row in self._rows(connection, f"SHOW COLUMNS FROM `{table.name}`")}
        missing = {column.name for column in table.columns} - found
        if len(missing) == 1 and "away" in found:
            back = f"ALTER TABLE `{table.name}` RENAME COLUMN away TO `{missing.pop()}`"
            self._try(connection, back)
        if missing:
            raise Judged("skipped", f"{table.name} lacks {missing}")

    @staticmethod
    def _rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def _run(self, connection: Any, sql: str) -> int | None:
        """Run a statement of the history, unless it is to be skipped."""
        self.started += 1
        if self.started in self.plan.skipped:
            return None
        return self._try(connection, sql)

    def _try(self, connection: Any, sql: str) -> int | None:
        """Run a statement; give the number of the error that it met, None without."""
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                cursor.fetchall()
        except UnicodeEncodeError:
            return 0  # the client's character set lacks it
        except pymysql.err.MySQLError as error:
            code = error.args[0] if error.args else 0
            self.log.append(f"-- {code}: {sql}")
            return int(code)
        self.log.append(sql)
        return None

    # Judging.

    def _check(self) -> None:
        """Wait until all is applied; compare every hash, for as long as something may be wrong that
        the daemon is still to notice."""
        self._require_sense()
        deadline = time.monotonic() + self._unnoticed_s()
        while True:
            self._settle()
            try:
                self.documents = sum(self._compare(spec) for spec in self.specs)
            except Judged as judged:
                if judged.word != "wrong" or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def _unnoticed_s(self) -> float:
        """How long a checkpoint may say nothing of what has happened."""
        return NOTICED_S if not REWINDS.isdisjoint(self.faults) else 0.0

    def _require_sense(self) -> None:
        """A declaration that the server itself refuses by now has no right documents."""
        if not all(self._accepts(sql) for spec in self.specs for sql in statements(spec)):
            raise Judged("skipped", "columns came to be that the server does not compare")

    def _settle(self) -> None:
        if isinstance(self.to_mysql, RefusingProxy):
            self.to_mysql.relent()
        target, began = self._end_of_log(), time.monotonic()
        waiting = self.names
        while waiting:
            waiting = [name for name in waiting if not self._is_settled(name, target)]
            if self.breaker.has_struck:
                self.breaker.restart()
                continue
            self._expect_alive()
            if time.monotonic() > began + _PATIENCE_S and self._is_senseless():
                raise Judged("skipped", "columns that the server does not compare")
            if time.monotonic() > began + SETTLE_S:
                raise Judged("stuck", f"{waiting} not settled\n{self._log_tail()}")
            time.sleep(0.01)

    def _end_of_log(self) -> Any:
        return committed(_Decoding(self.root))

    def _is_settled(self, name: str, end: Any) -> bool:
        return is_settled(self.redis, end, name)

    def _is_senseless(self) -> bool:
        """Whether the server refuses the declaration once it meets rows: of unlike collations."""
        return any(refusal in self.daemon.log() for refusal in self.incomparable)

    def _expect_alive(self) -> None:
        assert self.daemon.process is not None
        code = self.daemon.process.poll()
        if code is None:
            return
        said = self._log_tail()
        if code in (2, 3) and not self.redis.exists(f"{{{self.specs[0].name}}}:checkpoint"):
            raise Judged("refused", self.daemon.log().strip().splitlines()[-1])
        if code == 2 and any(refusal in said for refusal in self.incomparable):
            with contextlib.closing(self._connect(self.name)) as self.root:
                self._require_sense()
        raise Judged("ended", f"exit {code}\n{said}")

    def _asking(self) -> Any:
        """The connection that the oracle asks on."""
        return self.root

    def _compare(self, spec: Level) -> int:
        try:
            wanted = oracle.expected(self._asking(), spec)
        except self.refusals as error:
            raise Judged("skipped", f"the oracle's own query fails: {error}") from None
        stored = {k.decode(): v for k, v in self.redis.hgetall(spec.name).items()}
        quarantined = {
            k.decode(): v.decode()
            for k, v in self.redis.hgetall(f"{{{spec.name}}}:quarantine").items()
        }
        for difference in differences(wanted, stored, quarantined):
            raise Judged("wrong", f"{spec.name}: {difference}")
        return len(wanted.documents)

    def _log_tail(self) -> str:
        """What the daemon said last; of a traceback its end."""
        said = []
        for line in self.daemon.log().splitlines()[-12:]:
            event = json.loads(line) if line.startswith("{") else {"event": line}
            text = str(event.pop("exception", "")).strip()
            about = {k: v for k, v in event.items() if k not in ("timestamp", "version", "level")}
            said.append(f"{about} {text[-900:]}"[:1200])
        return "\n".join(said)

    def report(self) -> str:
        """Everything that makes it again."""
        parts = ["-- statements, as they were run; those with a number were refused"]
        parts += [f"{statement};" for statement in self.log]
        parts += ["", "# declaration", getattr(self, "text", "")]
        for spec in getattr(self, "specs", []):
            parts += [f"-- {sql}" for sql in statements(spec)]
        return "\n".join(parts)


class _Decoding:
    """A connection whose numbers are numbers, for those who count on it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self) -> Any:
        return self._connection.cursor()


def statements(spec: Level) -> Iterator[str]:
    def below(level: Level, above: list[Level]) -> Iterator[str]:
        yield oracle.statement(level, above)
        for child in level.children:
            yield from below(child, [*above, level])

    return below(spec, [])
