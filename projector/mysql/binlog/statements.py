"""What a statement in the log does to watched tables, as far as its rows are not in the log.

Never guesses in favour of "nothing": a statement is harmless only if it is known to be, or if no
watched table is named in it. A text that may be read in two ways counts for both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final, NamedTuple

from projector.model import TableName, folded
from projector.mysql.binlog.tokens import UNREADABLE, Session, Text, Token, readings


class Effect(NamedTuple):
    """What happened to a watched table, or to any of them (`table` None).

    `reason` None: no row changed; the definition did. `moves_columns`: rows logged before have
    their columns in other places.
    """

    table: TableName | None
    reason: str | None
    moves_columns: bool = False


@dataclass(frozen=True)
class Watched:
    """The names that matter. `read`: the columns that documents read, by table.

    `indirect` tells of lower-case names whether one may be a view, a routine or a table with
    triggers or cascades: something through which a statement can change a watched table unnamed.
    True for no name at all where nobody knows.
    """

    read: dict[TableName, frozenset[str]]
    folds_names: bool
    indirect: Callable[[Collection[str]], bool]

    @cached_property
    def by_name(self) -> dict[TableName, TableName]:
        """The watched tables by the names that they are found by."""
        return {table.folded(self.folds_names): table for table in self.read}

    def find(self, schema: str, name: str) -> TableName | None:
        """Return the watched table of this name, in the server's view of upper and lower case."""
        wanted = TableName(schema, name).folded(self.folds_names)
        return self.by_name.get(wanted)


_UNKNOWN_SESSION: Final = Session()
_HEAD: Final = 2000  # tokens by which a statement is judged; a longer one is read on for names
_DEFINITIONS: Final = frozenset("CREATE ALTER DROP RENAME TRUNCATE".split())
_CHANGES_ROWS: Final = frozenset(
    "INSERT REPLACE UPDATE DELETE LOAD WITH SELECT CALL DO TABLE VALUES REPAIR".split()
)
_HARMLESS: Final = frozenset(
    "BEGIN COMMIT ROLLBACK SAVEPOINT RELEASE SET GRANT REVOKE FLUSH ANALYZE CHECK OPTIMIZE XA START"
    " INSTALL UNINSTALL RESET PURGE KILL SHOW USE LOCK UNLOCK CHANGE STOP BINLOG HELP EXPLAIN"
    " DESCRIBE DESC DEALLOCATE SHUTDOWN".split()
)
_CODE: Final = frozenset("VIEW TRIGGER PROCEDURE FUNCTION EVENT PACKAGE".split())
_ELSEWHERE: Final = frozenset(
    "USER ROLE SERVER TABLESPACE LOGFILE UNDO RESOURCE INSTANCE SEQUENCE SPATIAL_REF LIBRARY"
    " SPATIAL".split()
)
_BEFORE_KIND: Final = frozenset(
    "OR REPLACE TEMPORARY IF NOT EXISTS ONLINE OFFLINE IGNORE UNIQUE FULLTEXT VECTOR AGGREGATE"
    " ALGORITHM UNDEFINED MERGE TEMPTABLE DEFINER SQL SECURITY INVOKER CURRENT_USER LOOSE NOWAIT"
    " WAIT EXTERNAL JSON RELATIONAL DUALITY MATERIALIZED".split()
)
_WAITS: Final = frozenset({"WAIT", "NOWAIT"})
_TRADES: Final = frozenset({"RENAME", "EXCHANGE", "CONVERT"})  # places with another table
_BEFORE_TABLE: Final = frozenset(
    "TRUNCATE TABLE TABLES EXISTS TO FROM INTO UPDATE LIKE WITH JOIN".split()
)
_KINDS: Final = frozenset("TABLE TABLES DATABASE SCHEMA INDEX".split()) | _CODE | _ELSEWHERE


def effects(
    text: bytes, schema: str, watched: Watched, session: Session = _UNKNOWN_SESSION
) -> list[Effect]:
    """Return what a statement did to watched tables beside the rows that the log spells out."""
    found: dict[Effect, None] = {}
    for reading in readings(text, session):
        for effect in _Statement(reading, schema, watched).effects():
            found[effect] = None
    return list(found)


def defined(text: bytes, session: Session = _UNKNOWN_SESSION) -> frozenset[str] | None:
    """Return the names, in lower case, through which a statement may act unnamed since this one:
    whatever a definition mentions. None where its names cannot be read."""
    found: set[str] = set()
    for reading in readings(text, session):
        head = _proper(list(islice(reading.tokens(), _HEAD)))
        if _verb(head) not in _DEFINITIONS:
            continue
        if UNREADABLE in reading.sql:
            return None
        tokens = list(reading.tokens(names_only=True))
        words = [token.word for token in head]
        if words[:2] != ["CREATE", "TABLE"] or any(t.word == "REFERENCES" for t in tokens):
            found.update(token.name.lower() for token in tokens if token.name)
    return frozenset(found)


def opens_transaction(text: bytes) -> bool:
    """Return whether this is MySQL's atomic CREATE TABLE ... SELECT: its rows and its commit
    follow."""
    return text[-64:].rstrip().upper().endswith(b"START TRANSACTION")


def _verb(tokens: Sequence[Token]) -> str:
    return next((token.word for token in tokens if token.mark != "("), "")


def _proper(tokens: Sequence[Token]) -> Sequence[Token]:
    """Leave out what MariaDB takes before a statement and carries out all the same, SET STATEMENT
    ... FOR and ANALYZE, and the dot of `.t` for `t`."""
    words = [token.word for token in tokens]
    if words[:2] == ["SET", "STATEMENT"] and "FOR" in words:
        return _proper(tokens[words.index("FOR") + 1 :])
    changed = {"INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"} & set(words[1:5])  # FORMAT = JSON
    if words[:1] == ["ANALYZE"] and changed:
        first = next(i for i, word in enumerate(words) if word in changed)
        return _proper(tokens[first:])
    return [
        token
        for i, token in enumerate(tokens)
        if token.mark != "." or (i and tokens[i - 1].name and words[i - 1] not in _BEFORE_TABLE)
    ]


class _Statement:
    """One reading of one statement."""

    def __init__(self, reading: Text, schema: str, watched: Watched) -> None:
        self._reading, self._schema, self._watched = reading, schema, watched
        head = list(islice(reading.tokens(), _HEAD))
        self._tokens = _proper(head)
        self._verb = _verb(self._tokens)
        self._is_doubtful = False  # a name cannot be read
        if self._verb in _DEFINITIONS and self._verb != "CREATE" and len(head) == _HEAD:
            self._tokens = _proper(list(reading.tokens()))

    def effects(self) -> list[Effect]:
        if self._verb in _HARMLESS or not self._tokens:
            return []
        is_definition = self._verb in _DEFINITIONS
        found = self._definition(self._verb) if is_definition else self._changes_of_rows()
        if self._is_doubtful:
            found.append(Effect(None, "statement", True))
        return found

    def _definition(self, verb: str) -> list[Effect]:
        kind, at = self._kind()
        found: list[Effect] = []
        if verb == "TRUNCATE":
            found = [Effect(t, "truncate") for t in self._named()]
        elif kind in {"DATABASE", "SCHEMA"}:
            goes = verb == "DROP" or (verb == "CREATE" and self._word(1) == "OR")
            found = self._whole_schema(at) if goes else []
        elif kind == "INDEX":
            found = [Effect(t, None) for t in self._named()]
        elif not kind:
            self._is_doubtful = True  # a thing of a newer server
        elif kind in _ELSEWHERE or kind in _CODE or self._is_temporary(at):
            pass
        elif verb in {"DROP", "RENAME"}:
            found = [Effect(t, verb.lower(), True) for t in self._named()]
        elif verb == "CREATE":
            found = self._create(at)
        else:
            found = self._alter(at)
        return found

    def _is_temporary(self, at: int) -> bool:
        return any(token.word == "TEMPORARY" for token in self._tokens[:at])

    def _kind(self) -> tuple[str, int]:
        """The sort of thing that is defined, and the place behind it."""
        for i, token in enumerate(self._tokens[1:], 1):
            if token.word in _KINDS:
                return token.word, i + 1
            if token.word and token.word not in _BEFORE_KIND and not self._is_definer(i):
                break
        return "", 1

    def _is_definer(self, i: int) -> bool:
        before = self._tokens[i - 1]
        return before.mark in {"@", "="} or (
            i + 1 < len(self._tokens) and self._tokens[i + 1].mark in {"@", "="}
        )

    def _create(self, at: int) -> list[Effect]:
        """Only the new table itself counts: the others are read."""
        name = self._name_behind_exists(at)
        table = self._table_at(name) if name < len(self._tokens) else None
        words = {token.word for token in self._reading.tokens(names_only=True)}
        if table is None:
            names = {name.lower() for _, name in self._mentions()}
            return self._unnamed(names) if "SELECT" in words else []
        if self._word(1) == "OR":
            return [Effect(table, "drop", True)]
        if "REFERENCES" in words:
            return [Effect(table, "alter", True)]
        behind = {token.word for token in self._tokens[name + 1 :]}
        filled = words & {"SELECT", "VALUES", "WITH"} or "TABLE" in behind
        return [Effect(table, "statement" if filled else None, True)]

    def _alter(self, at: int) -> list[Effect]:
        name = self._name_behind_exists(at)
        table = self._table_at(name) if name < len(self._tokens) else None
        trades_places = any(token.word in _TRADES for token in self._tokens)
        others = [t for t in self._named(name + 1) if t != table] if trades_places else []
        found = [Effect(t, "rename", True) for t in others]
        if table is None:
            return found
        behind = name + (3 if self._mark(name + 1) == "." else 1)
        while self._word(behind) in _WAITS or self._word(behind - 1) == "WAIT":
            behind += 1
        actions = _actions(self._tokens[behind:])
        harm = [_action(action, self._watched.read[table]) for action in actions]
        ignores = any(token.word == "IGNORE" for token in self._tokens[:at])  # rows that do not fit
        reason = "alter" if ignores or any(h.changes_values for h in harm) else None
        return [*found, Effect(table, reason, any(h.moves_columns for h in harm))]

    def _changes_of_rows(self) -> list[Effect]:
        """INSERT, UPDATE, LOAD DATA, CALL ... logged as a statement, or a word never seen."""
        if self._watched.indirect(()):
            return [
                Effect(None, "statement")
            ]  # whatever it names: spare the reading of a long text
        tables: dict[TableName, None] = {}
        names: set[str] = set()
        for schema, name in set(self._mentions()):
            names.update((schema.lower(), name.lower()))
            table = self._find(schema or self._schema, name)
            if table is not None:
                tables[table] = None
        found = [Effect(table, "statement") for table in tables]
        if self._verb not in _CHANGES_ROWS and not tables:
            found.append(Effect(None, "statement"))
        return list(dict.fromkeys([*found, *self._unnamed(names)]))

    def _unnamed(self, names: Collection[str]) -> list[Effect]:
        """What a statement with these names may have changed that it does not name: through views,
        routines, triggers, cascades."""
        return [Effect(None, "statement")] if self._watched.indirect(names) else []

    def _mentions(self) -> Iterator[tuple[str, str]]:
        return _mentioned(self._reading.tokens(names_only=True))

    def _whole_schema(self, at: int) -> list[Effect]:
        name = self._tokens[self._name_behind_exists(at)].name if at < len(self._tokens) else ""
        return [
            Effect(t, "drop", True)
            for t in self._watched.read
            if t.schema == name or folded(t.schema) == folded(name)
        ]

    def _named(self, first: int = 1) -> list[TableName]:
        """Every watched table that is named from here on."""
        found: dict[TableName, None] = {}
        for i in range(first, len(self._tokens)):
            if self._tokens[i].name and self._mark(i - 1) != ".":
                table = self._table_at(i)
                if table is not None:
                    found[table] = None
        return list(found)

    def _table_at(self, i: int) -> TableName | None:
        if self._mark(i + 1) == "." and i + 2 < len(self._tokens):
            return self._find(self._tokens[i].name, self._tokens[i + 2].name)
        return self._find(self._schema, self._tokens[i].name)

    def _find(self, schema: str, name: str) -> TableName | None:
        if UNREADABLE in schema or UNREADABLE in name:
            self._is_doubtful = True
        return self._watched.find(schema, name)

    def _name_behind_exists(self, at: int) -> int:
        while self._word(at) in {"IF", "NOT", "EXISTS"} | _WAITS or (
            self._mark(at) == "'" and self._word(at - 1) == "WAIT"
        ):
            at += 1
        return at

    def _word(self, i: int) -> str:
        return self._tokens[i].word if i < len(self._tokens) else ""

    def _mark(self, i: int) -> str:
        return self._tokens[i].mark if 0 <= i < len(self._tokens) else ""


def _mentioned(tokens: Iterator[Token]) -> Iterator[tuple[str, str]]:
    """Return what is named, as schema (or empty) and name: `a`, and `a.b` of `a.b.c` too."""
    parts: list[str] = []
    mark, ends = "", True  # what comes is no part of what came
    for token in tokens:
        if not token.name:
            mark, ends = token.mark, ends or token.mark == ","
            continue
        if mark != "." or ends:  # `.t` is `t`
            if parts:
                yield ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
            parts = []
        parts.append(token.name)
        mark, ends = "", token.word in _BEFORE_TABLE
    if parts:
        yield ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])


class _Harm(NamedTuple):
    changes_values: bool
    moves_columns: bool


_NO_COLUMNS: Final = frozenset(
    "INDEX KEY UNIQUE FULLTEXT SPATIAL VECTOR CONSTRAINT PRIMARY FOREIGN CHECK".split()
)
_NO_HARM: Final = frozenset(
    "COMMENT AUTO_INCREMENT ENGINE ALGORITHM LOCK ENABLE DISABLE ROW_FORMAT KEY_BLOCK_SIZE FORCE"
    " STATS_PERSISTENT STATS_AUTO_RECALC STATS_SAMPLE_PAGES ANALYZE WITHOUT".split()
)


_KEEPS_ROWS: Final = frozenset("INNODB MYISAM ARIA MEMORY HEAP ARCHIVE ROCKSDB NDB".split())
_OTHER_ROWS: Final = frozenset("UNION CONNECTION".split())  # of MERGE and FEDERATED


def _actions(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """Cut ALTER TABLE's actions apart at the commas outside of parentheses."""
    actions, depth, start = [], 0, 0
    for i, token in enumerate(tokens):
        depth += (token.mark == "(") - (token.mark == ")")
        if token.mark == "," and depth == 0:
            actions.append(tokens[start:i])
            start = i + 1
    return [action for action in [*actions, tokens[start:]] if action]


def _action(action: Sequence[Token], read: frozenset[str]) -> _Harm:
    """Judge one action: known to leave the read columns alone, or not."""
    verb, rest = action[0].word, list(action[1:])
    if any(token.word == "REFERENCES" for token in rest) or (
        verb == "DROP" and rest and rest[0].word in {"FOREIGN", "CONSTRAINT"}
    ):
        return _Harm(True, False)  # whoever follows hidden cascades knew another set of keys
    if any(token.word == "PRIMARY" for token in action):
        return _Harm(True, False)  # who does so tells rows apart by it
    if _leaves_the_rows(action):
        return _Harm(True, False)
    first = rest[0].word if rest else ""
    renames_index = verb == "RENAME" and first in {"INDEX", "KEY"}
    if verb in _NO_HARM or renames_index or (verb in {"ADD", "DROP"} and first in _NO_COLUMNS):
        return _Harm(False, False)
    if verb in {"ADD", "DROP", "MODIFY", "CHANGE", "ALTER"}:
        return _column_action(verb, rest, {name.lower() for name in read})
    return _Harm(True, True)


def _leaves_the_rows(action: Sequence[Token]) -> bool:
    """Return whether a table's rows may be others behind an option: those of another engine."""
    words = [token.word or token.name.upper() for token in action if token.mark != "="]
    engines = {words[i + 1] for i, word in enumerate(words[:-1]) if word in {"ENGINE", "TYPE"}}
    return bool(engines - _KEEPS_ROWS or _OTHER_ROWS.intersection(words))


def _column_action(verb: str, rest: list[Token], read: set[str]) -> _Harm:
    explicit = bool(rest) and rest[0].word == "COLUMN"
    rest = rest[1:] if explicit else rest
    while rest and rest[0].word in {"IF", "NOT", "EXISTS"}:
        rest = rest[1:]
    if not rest or not rest[0].name or (not explicit and rest[0].word in {"PARTITION", "SYSTEM"}):
        return _Harm(True, True)
    names = {rest[0].name.lower()} | ({rest[1].name.lower()} if verb == "CHANGE" else set())
    places = any(token.word in {"FIRST", "AFTER"} for token in rest)
    if verb == "ALTER":  # SET DEFAULT, SET VISIBLE: rows stay as they are
        return _Harm(False, False)
    moves = verb == "DROP" or places
    return _Harm(bool(names & read), moves or verb in {"MODIFY", "CHANGE"})
