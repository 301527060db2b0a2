"""Start private MySQL and MariaDB servers with a binlog, at server defaults but for size and speed.

Kill -9 of the server loses no committed transaction (`innodb_flush_log_at_trx_commit=2`,
`sync_binlog=0`: written to the system, not to the disk).
"""

import os
import shutil
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from tests.servers.database import ROOT_PASSWORD, DatabaseServer
from tests.servers.docker import Container
from tests.servers.flavours import RECIPES, Flavour
from tests.servers.process import free_port, new_folder
from tests.servers.programs import Image, find
from tests.servers.template import SMALL, local_server, template


def find_database(flavour: Flavour) -> DatabaseServer:
    """The server that the environment names for this flavour, otherwise a new private one."""
    variable = RECIPES[flavour].environment
    address = os.environ.get(variable) if variable else None
    if not address:
        return start_database(flavour)
    parts = urlsplit(address)
    return DatabaseServer(
        flavour,
        parts.hostname or "127.0.0.1",
        parts.port or 3306,
        unquote(parts.username or "root"),
        unquote(parts.password or ""),
        socket=None,
        process=None,
    )


def start_database(
    flavour: Flavour, *, options: Sequence[str] = (), gtid: bool = True
) -> DatabaseServer:
    """A new private server that answers. The options are the server's own, and win over ours.

    `gtid` is for MySQL alone; MariaDB always has GTIDs. Raises ServerUnavailable.
    """
    program = find(flavour)
    port = free_port()
    arguments = [*_arguments(flavour, port, gtid), *options]
    if isinstance(program, Image):
        environment = {
            "MYSQL_ROOT_PASSWORD": ROOT_PASSWORD,
            "MYSQL_ROOT_HOST": "%",
            "MARIADB_ROOT_PASSWORD": ROOT_PASSWORD,
        }
        process = Container(program.name, port, arguments, environment)
        server = DatabaseServer(flavour, "127.0.0.1", port, "root", ROOT_PASSWORD, None, process)
    else:
        folder = new_folder(flavour.value)
        shutil.copytree(template(flavour, program, options), folder / "data")
        server = local_server(flavour, program, folder, port, arguments)
    server.start()
    return server


def _arguments(flavour: Flavour, port: int, gtid: bool) -> list[str]:
    arguments = [
        f"--server-id={port}",
        "--log-bin=binlog",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=64M",
        "--innodb-flush-log-at-trx-commit=2",
        "--sync-binlog=0",
        *SMALL[flavour],
    ]
    if flavour is not Flavour.MYSQL:
        return [*arguments, "--binlog-format=ROW"]
    arguments.append("--mysqlx=OFF")
    switch = "ON" if gtid else "OFF"  # stated, for it is on by default since MySQL 9
    return [*arguments, f"--gtid-mode={switch}", f"--enforce-gtid-consistency={switch}"]
