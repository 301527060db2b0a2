"""What a statement in the log does to watched tables, as far as its rows are not in the log.

Never guesses in favour of "nothing": a statement is harmless only if it is known to be, or if no
watched table is named in it. A text that may be read in two ways counts for both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from projector.model import TableName, folded


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


# What is in /*! */ is code to some server: only the marks are left out, the words are kept.
_TOKEN: Final = (
    r"\s+|/\*(?!M?!).*?\*/|(?:--(?=\s|$)|\#)[^\n]*|/\*M?!\d*|\*/"
    r"|(?P<quoted>`(?:[^`]|``)*`|\"(?:[^\"{0}]{1}|\"\")*\")"
    r"|(?P<text>'(?:[^'{0}]{1}|'')*')"
    r"|(?P<word>[\w$\u0080-\U0010ffff]+)|(?P<mark>.)"
)
_TOKENS: Final = (
    re.compile(_TOKEN.format(r"\\", r"|\\."), re.DOTALL),
    re.compile(_TOKEN.format("", ""), re.DOTALL),  # NO_BACKSLASH_ESCAPES
)
_DEFINES: Final = re.compile(rb"\b(?:CREATE|ALTER|DROP|RENAME)\b", re.IGNORECASE)
_CHANGES_ROWS: Final = re.compile(
    rb"\s*(?:INSERT|REPLACE|UPDATE|DELETE|LOAD|CALL|SELECT|DO)\b", re.IGNORECASE
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
    " WAIT".split()
)
_WAITS: Final = frozenset({"WAIT", "NOWAIT"})
_TRADES: Final = frozenset({"RENAME", "EXCHANGE", "CONVERT"})  # places with another table
_BEFORE_TABLE: Final = frozenset(
    "TRUNCATE TABLE TABLES EXISTS TO FROM INTO UPDATE LIKE WITH JOIN".split()
)
_KINDS: Final = frozenset("TABLE TABLES DATABASE SCHEMA INDEX".split()) | _CODE | _ELSEWHERE


class _Token(NamedTuple):
    word: str  # upper case for an unquoted word, else empty
    name: str  # what it is as a name; empty for marks and texts
    mark: str


def effects(text: bytes, schema: str, watched: Watched) -> list[Effect]:
    """Return what a statement did to watched tables beside the rows that the log spells out."""
    if _CHANGES_ROWS.match(text) and watched.indirect(()):
        return [Effect(None, "statement")]  # whatever it names: spare the reading of a long text
    found: dict[Effect, None] = {}
    try:
        sql = text.decode("utf-8")
    except UnicodeDecodeError:
        sql = text.decode("latin-1")
        found = dict.fromkeys(_raw_mentions(text, watched))
    for tokens in _readings(sql):
        for effect in _Statement(tokens, schema, watched).effects():
            found[effect] = None
    return list(found)


def defined(text: bytes) -> frozenset[str] | None:
    """Return the names, in lower case, through which a statement may act unnamed since this one:
    whatever a definition mentions. None where its names cannot be read."""
    if _CHANGES_ROWS.match(text) or not _DEFINES.search(text):
        return frozenset()
    try:
        sql = text.decode("utf-8")
    except UnicodeDecodeError:
        return None
    found: set[str] = set()
    for tokens in _readings(sql):
        words = [token.word for token in _proper(tokens)]
        if words[:2] != ["CREATE", "TABLE"] or "REFERENCES" in words:
            found.update(token.name.lower() for token in tokens if token.name)
    return frozenset(found)


def opens_transaction(text: bytes) -> bool:
    """Tell MySQL's atomic CREATE TABLE ... SELECT: its rows and its commit follow."""
    return text[-64:].rstrip().upper().endswith(b"START TRANSACTION")


def _raw_mentions(text: bytes, watched: Watched) -> list[Effect]:
    """For a text in another character set: any watched name in it counts."""
    lowered = text.lower()
    return [
        Effect(t, "statement", True) for t in watched.read if t.name.lower().encode() in lowered
    ]


def _readings(sql: str) -> Iterator[list[_Token]]:
    yield _tokens(_TOKENS[0], sql)
    if "\\" in sql:
        yield _tokens(_TOKENS[1], sql)


def _tokens(pattern: re.Pattern[str], sql: str) -> list[_Token]:
    tokens = []
    for match in pattern.finditer(sql):
        kind, value = match.lastgroup, match.group()
        if kind == "word":
            tokens.append(_Token(value.upper(), value, ""))
        elif kind == "quoted":
            quote = value[0]
            tokens.append(_Token("", value[1:-1].replace(quote * 2, quote), ""))
        elif kind == "text":
            tokens.append(_Token("", "", "'"))
        elif kind == "mark":
            tokens.append(_Token("", "", value))
    return tokens


def _proper(tokens: Sequence[_Token]) -> Sequence[_Token]:
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

    def __init__(self, tokens: Sequence[_Token], schema: str, watched: Watched) -> None:
        self._tokens, self._schema, self._watched = _proper(tokens), schema, watched

    def effects(self) -> list[Effect]:
        verb = self._word(0)
        if verb in _HARMLESS or not self._tokens:
            return []
        if verb in {"CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE"}:
            return self._definition(verb)
        return self._changes_of_rows()

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
        words = {token.word for token in self._tokens[name + 1 :]}
        if table is None:
            return self._unnamed() if "SELECT" in words else []
        if self._word(1) == "OR":
            return [Effect(table, "drop", True)]
        if "REFERENCES" in words:
            return [Effect(table, "alter", True)]
        filled = words & {"SELECT", "VALUES", "WITH", "TABLE"}
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
        reason = "alter" if any(h.changes_values for h in harm) else None
        return [*found, Effect(table, reason, any(h.moves_columns for h in harm))]

    def _changes_of_rows(self) -> list[Effect]:
        """INSERT, UPDATE, LOAD DATA, CALL ... logged as a statement, or a word never seen."""
        found = [Effect(t, "statement") for t in self._named()]
        return [*found, *self._unnamed()]

    def _unnamed(self) -> list[Effect]:
        names = {t.name.lower() for t in self._tokens if t.name}
        return [Effect(None, "statement")] if self._watched.indirect(names) else []

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
            return self._watched.find(self._tokens[i].name, self._tokens[i + 2].name)
        return self._watched.find(self._schema, self._tokens[i].name)

    def _name_behind_exists(self, at: int) -> int:
        while self._word(at) in {"IF", "NOT", "EXISTS"} | _WAITS or (
            self._word(at).isdecimal() and self._word(at - 1) == "WAIT"
        ):
            at += 1
        return at

    def _word(self, i: int) -> str:
        return self._tokens[i].word if i < len(self._tokens) else ""

    def _mark(self, i: int) -> str:
        return self._tokens[i].mark if 0 <= i < len(self._tokens) else ""


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


def _actions(tokens: Sequence[_Token]) -> list[Sequence[_Token]]:
    """Cut ALTER TABLE's actions apart at the commas outside of parentheses."""
    actions, depth, start = [], 0, 0
    for i, token in enumerate(tokens):
        depth += (token.mark == "(") - (token.mark == ")")
        if token.mark == "," and depth == 0:
            actions.append(tokens[start:i])
            start = i + 1
    return [action for action in [*actions, tokens[start:]] if action]


def _action(action: Sequence[_Token], read: frozenset[str]) -> _Harm:
    """Judge one action: known to leave the read columns alone, or not."""
    verb, rest = action[0].word, list(action[1:])
    if any(token.word == "REFERENCES" for token in rest) or (
        verb == "DROP" and rest and rest[0].word in {"FOREIGN", "CONSTRAINT"}
    ):
        return _Harm(True, False)  # whoever follows hidden cascades knew another set of keys
    if verb in _NO_HARM:
        return _Harm(False, False)
    if verb == "RENAME" and rest and rest[0].word in {"INDEX", "KEY"}:
        return _Harm(False, False)
    if verb in {"ADD", "DROP"} and rest and rest[0].word in _NO_COLUMNS:
        return _Harm(False, False)
    if verb in {"ADD", "DROP", "MODIFY", "CHANGE", "ALTER"}:
        return _column_action(verb, rest, {name.lower() for name in read})
    return _Harm(True, True)


def _column_action(verb: str, rest: list[_Token], read: set[str]) -> _Harm:
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
