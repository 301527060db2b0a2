"""The faults: each is done to the world, lasts a moment, and is over when its function returns."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import pymysql
import redis

from tests.projector_process import Projector
from tests.servers import DatabaseServer, RedisServer, TcpProxy


class Stage(Protocol):
    """What faults are done to; `names` are the hashes, `redis` a direct client."""

    database: DatabaseServer
    redis_server: RedisServer
    to_mysql: TcpProxy
    to_redis: TcpProxy
    redis: Any
    daemon: Projector

    @property
    def names(self) -> list[str]: ...

    def another(self) -> Projector: ...


# At one moment, as a snapshot is: key by key would tear what is written together.
_DUMP_ALL = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = key
  found[#found + 1] = redis.call('DUMP', key)
end
return found"""

Fault = Callable[[Stage, Random], None]


def daemon_killed(stage: Stage, random: Random) -> None:
    """kill -9 and a restart."""
    stage.daemon.kill()
    time.sleep(random.uniform(0, 0.5))
    stage.daemon.start()


def daemon_stopped(stage: Stage, random: Random) -> None:
    """SIGTERM and a restart. Before it listens no process can know what the signal means."""
    assert stage.daemon.http_port
    assert stage.daemon.stop(20) == 0
    stage.daemon.start()


def daemon_paused(stage: Stage, random: Random) -> None:
    """SIGSTOP for longer than its lease, while another takes over and stops again."""
    assert stage.daemon.process is not None
    stage.daemon.process.send_signal(signal.SIGSTOP)
    second = stage.another()
    second.start()
    try:
        time.sleep(random.uniform(2.5, 4))
        stage.daemon.process.send_signal(signal.SIGCONT)
        time.sleep(random.uniform(0, 1))
    finally:
        second.stop(20)


def mysql_cut(stage: Stage, random: Random) -> None:
    """Connections to the database end and are refused."""
    stage.to_mysql.cut()
    time.sleep(random.uniform(0.1, 1.5))
    stage.to_mysql.heal()


def mysql_stalled(stage: Stage, random: Random) -> None:
    """Half-open connections: nothing comes, nothing ends."""
    stage.to_mysql.stall()
    time.sleep(random.uniform(0.5, 5))
    stage.to_mysql.reset_connections()
    stage.to_mysql.heal()


def mysql_slow(stage: Stage, random: Random) -> None:
    """Every chunk is late."""
    stage.to_mysql.delay(random.uniform(0.01, 0.1))
    time.sleep(random.uniform(0.5, 2))
    stage.to_mysql.heal()


def mysql_killed(stage: Stage, random: Random) -> None:
    """kill -9 of the server."""
    stage.database.kill()
    stage.database.start()


def mysql_restarted(stage: Stage, random: Random) -> None:
    """A clean restart of the server."""
    stage.database.restart()


def dump_thread_killed(stage: Stage, random: Random) -> None:
    """KILL of the replication connection, and of the reading one."""
    with contextlib.suppress(pymysql.err.Error):
        for row in stage.database.execute("SHOW PROCESSLIST"):
            if "Binlog Dump" in str(row[4]) or random.random() < 0.3:
                with contextlib.suppress(pymysql.err.Error):
                    stage.database.execute(f"KILL {int(row[0])}")


def logs_purged(stage: Stage, random: Random) -> None:
    """The log that the daemon needs goes away while it is down."""
    stage.daemon.kill()
    time.sleep(0.3)
    with contextlib.closing(stage.database.connect()) as connection, connection.cursor() as cursor:
        # A server may end statements after a moment: MySQL those that read, MariaDB all of them.
        cursor.execute("/*M! SET SESSION max_statement_time = 0 */")
        cursor.execute("FLUSH BINARY LOGS")
        time.sleep(0.3)
        cursor.execute("SHOW BINARY LOGS")
        last = cursor.fetchall()[-1][0]
        cursor.execute(f"PURGE BINARY LOGS TO '{last}'")
    stage.daemon.start()


def redis_cut(stage: Stage, random: Random) -> None:
    """Connections to Redis end and are refused."""
    stage.to_redis.cut()
    time.sleep(random.uniform(0.1, 3))
    stage.to_redis.heal()


def redis_stalled(stage: Stage, random: Random) -> None:
    """Replies are lost though writes may have happened."""
    stage.to_redis.stall()
    time.sleep(random.uniform(0.2, 4))
    stage.to_redis.reset_connections()
    stage.to_redis.heal()


def redis_emptied(stage: Stage, random: Random) -> None:
    """FLUSHALL, or the hash alone deleted."""
    if random.random() < 0.5:
        stage.redis.flushall()
    else:
        stage.redis.delete(*stage.names)


def redis_forgets_scripts(stage: Stage, random: Random) -> None:
    """NOSCRIPT."""
    stage.redis.script_flush()


def redis_read_only(stage: Stage, random: Random) -> None:
    """READONLY for a moment, as after a failover."""
    with contextlib.suppress(redis.RedisError):
        stage.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    time.sleep(random.uniform(0.2, 2))
    stage.redis.execute_command("REPLICAOF", "NO", "ONE")


def redis_full(stage: Stage, random: Random) -> None:
    """OOM for a moment."""
    stage.redis.config_set("maxmemory", "1mb")
    time.sleep(random.uniform(0.2, 2))
    stage.redis.config_set("maxmemory", "0")


def redis_restarted(stage: Stage, random: Random) -> None:
    """kill -9 without persistence: everything is gone."""
    stage.redis_server.kill()
    stage.redis_server.start()


def redis_goes_back(stage: Stage, random: Random) -> None:
    """A restore of an older state: documents, checkpoint and lease together."""
    found = stage.redis.eval(_DUMP_ALL, 0)
    older = dict(zip(found[::2], found[1::2], strict=True))
    time.sleep(random.uniform(0.3, 1.5))
    with stage.redis.pipeline() as pipe:
        pipe.delete(*stage.names, *older)
        for key, value in older.items():
            if value is not None:
                pipe.restore(key, 2000 if key.endswith(b":lease") else 0, value, replace=True)
        pipe.execute()


FAULTS: list[Fault] = [
    daemon_killed, daemon_stopped, daemon_paused, mysql_cut, mysql_stalled, mysql_slow,
    mysql_killed, mysql_restarted, dump_thread_killed, logs_purged, redis_cut, redis_stalled,
    redis_emptied, redis_forgets_scripts, redis_read_only, redis_full, redis_restarted,
    redis_goes_back,
]  # fmt: skip
# Redis is another one afterwards, which no checkpoint in it need tell.
REWINDS = {redis_emptied, redis_goes_back, redis_restarted}
