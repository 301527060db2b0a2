"""Questions to one database server whose refusals are answers too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import URL

from projector.checks import numbered
from projector.databases import Mysql
from projector.errors import OperatorError
from projector.mysql.connection import Connection, Rows, ServerError, engine
from projector.mysql.position import Flavour


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's number of an error and its text."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself; `variables` are its global ones, by lower-case name."""

    flavour: Flavour
    version: str
    number: tuple[int, ...]
    variables: Mapping[str, str]
    account: str

    def value(self, name: str, default: str = "") -> str:
        """Return a variable in upper case; `default` where this server does not have it."""
        return self.variables.get(name, default).upper()

    def number_of(self, name: str, default: float = 0) -> float:
        """Return a variable that is a number."""
        return float(self.variables.get(name) or default)

    def is_on(self, name: str, default: str = "ON") -> bool:
        """Return whether a switch is on."""
        return self.value(name, default) in {"ON", "1", "YES"}

    @property
    def folds_names(self) -> bool:
        """Whether names of tables ignore case."""
        return self.number_of("lower_case_table_names") != 0

    @property
    def title(self) -> str:
        """The product's name."""
        return "MariaDB" if self.flavour is Flavour.MARIADB else "MySQL"


class Asker:
    """One connection for questions; rebuilt after each refusal."""

    def __init__(
        self, url: URL, settings: Mysql, on_answer: Callable[[], None] = lambda: None
    ) -> None:
        self._engine = engine(url, settings)
        self.connection = Connection(self._engine, on_answer)

    def rows(self, sql: str) -> Rows:
        """Ask. Raises TransientError, OperatorError or ServerError."""
        [rows] = self.connection.query(sql)
        return rows

    def each(self, *statements: str) -> list[Rows]:
        """Ask several things in one round trip."""
        return self.connection.query(*statements)

    def attempt(self, *statements: str) -> Rows | Refusal:
        """Ask what may be refused; return the rows of the last statement. Raises TransientError."""
        try:
            return self.connection.query(*statements)[-1]
        except (OperatorError, ServerError) as error:
            if (refusal := refused(error)) is None:
                raise
            return refusal

    def facts(self) -> Facts:
        """Ask the server who it is."""
        who, variables = self.each("SELECT VERSION(), CURRENT_USER()", "SHOW GLOBAL VARIABLES")
        version, account = str(who[0][0]), str(who[0][1])
        found = {text_of(row[0]).lower(): text_of(row[1]) for row in variables}
        flavour = Flavour.MARIADB if "mariadb" in version.lower() else Flavour.MYSQL
        user, _, host = account.rpartition("@")
        return Facts(flavour, version, numbered(version), found, f"'{user}'@'{host}'")

    def close(self) -> None:
        """Free the connection."""
        self.connection.close()
        self._engine.dispose()


def refused(error: Exception) -> Refusal | None:
    """Return the server's own words behind an error; None where it said nothing."""
    origin = error if isinstance(error, ServerError) else error.__cause__
    if not isinstance(origin, ServerError):
        return None
    arguments: Sequence[Any] = origin.args
    code = arguments[0] if arguments and isinstance(arguments[0], int) else 0
    return Refusal(code, str(arguments[-1]) if arguments else type(origin).__name__)


def text_of(value: Any) -> str:
    """Return a value of the catalog as text: some columns come as bytes."""
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)
