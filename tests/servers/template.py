"""Data folders of new servers: made once per program, kept in the cache, copied for each.

A template has the system tables, `root` with ROOT_PASSWORD from anywhere, and an empty binlog.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers.cache import cache_folder, locked
from tests.servers.database import ROOT_PASSWORD, DatabaseServer
from tests.servers.flavours import Flavour, ServerUnavailable
from tests.servers.process import Process, free_port, new_folder
from tests.servers.programs import Program

_ACCOUNTS = f"""
ALTER USER 'root'@'localhost' IDENTIFIED BY '{ROOT_PASSWORD}';
CREATE USER 'root'@'%' IDENTIFIED BY '{ROOT_PASSWORD}';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
"""

# The order of mariadb-install-db, without help texts; `mysql_` before 11, `mariadb_` since.
_MARIADB_SYSTEM_SQL = (
    "m*_system_tables.sql",
    "m*_performance_tables.sql",
    "m*_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
    "m*_sys_schema.sql",
)

_AT_BIRTH = {"--lower-case-table-names"}

SMALL = {
    Flavour.MARIADB: ("--innodb-log-file-size=16M",),
    Flavour.MARIADB_11: ("--innodb-log-file-size=16M",),
    Flavour.MYSQL: ("--innodb-redo-log-capacity=32M",),
}


def local_server(
    flavour: Flavour, program: Program, folder: Path, port: int, arguments: Sequence[str]
) -> DatabaseServer:
    """A server, not yet started, of this program on the data in `folder / "data"`."""
    socket = folder / "sock"
    command = [
        *_local_command(flavour, program, folder / "data"),
        f"--socket={socket}",
        f"--tmpdir={folder}",  # MariaDB, as it starts, clears all temporary tables there
        f"--port={port}",
        *arguments,
    ]
    process = Process(command, folder)
    return DatabaseServer(flavour, "127.0.0.1", port, "root", ROOT_PASSWORD, socket, process)


def template(flavour: Flavour, program: Program, options: Sequence[str] = ()) -> Path:
    """The initialised data folder for this program, made at the first use.

    Of a server's `options`, those of _AT_BIRTH hold for its data as long as it lives.
    """
    seen = program.file.stat()
    born = [option for option in options if option.partition("=")[0] in _AT_BIRTH]
    recipe = f"{program.file}{seen.st_size}{seen.st_mtime_ns}{_ACCOUNTS}{SMALL[flavour]}"
    recipe += "".join(born)
    name = f"{flavour.value}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    folder = cache_folder() / "templates" / name
    if not folder.is_dir():
        with locked(f"template-{flavour.value}"):
            if not folder.is_dir():
                building = new_folder("template") / "data"
                _initialise(flavour, program, building, born)
                folder.parent.mkdir(exist_ok=True)
                fresh = folder.with_suffix(".new")
                shutil.rmtree(fresh, ignore_errors=True)
                shutil.copytree(building, fresh)
                shutil.rmtree(building.parent)
                fresh.rename(folder)
    return folder


def _local_command(flavour: Flavour, program: Program, data: Path) -> list[str]:
    prefix = program.prefix
    command = [
        *program.command,
        "--no-defaults",
        f"--basedir={prefix}",
        f"--datadir={data}",
        "--bind-address=127.0.0.1",
        "--innodb-use-native-aio=0",
    ]
    if flavour is Flavour.MYSQL:
        command.append("--secure-file-priv=NULL")
    if os.geteuid() == 0:
        command.append("--user=root")
    return command


def _initialise(flavour: Flavour, program: Program, data: Path, born: Sequence[str]) -> None:
    command = [*_local_command(flavour, program, data), *SMALL[flavour], "--skip-log-bin", *born]
    script = None
    if flavour is Flavour.MYSQL:
        command.append("--initialize-insecure")
    else:
        data.mkdir()
        command.append("--bootstrap")
        share = _share(program.prefix)
        files = [next(share.glob(pattern)).read_text() for pattern in _MARIADB_SYSTEM_SQL]
        script = "\n".join(
            ["CREATE DATABASE mysql;", "USE mysql;", "SET @auth_root_socket='root';", *files]
        )
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerUnavailable(
            f"{program.file} cannot make its system tables:\n{done.stderr[-2000:]}"
        )
    _create_accounts(flavour, program, data, born)
    (data / "auto.cnf").unlink(missing_ok=True)  # the server's UUID: each copy gets one of its own


def _create_accounts(flavour: Flavour, program: Program, data: Path, born: Sequence[str]) -> None:
    """Run the server once to make `root` usable over TCP, and stop it cleanly."""
    accounts = data.parent / "accounts.sql"
    accounts.write_text(_ACCOUNTS)
    options = [*SMALL[flavour], "--skip-log-bin", f"--init-file={accounts}", *born]
    server = local_server(flavour, program, data.parent, free_port(), options)
    server.start()
    server.stop()


def _share(prefix: Path) -> Path:
    """The folder of MariaDB's SQL scripts."""
    for name in ("mariadb", "mysql"):
        if next((prefix / "share" / name).glob("m*_system_tables.sql"), None):
            return prefix / "share" / name
    raise ServerUnavailable(f"no SQL scripts of MariaDB below {prefix / 'share'}")
