from collections.abc import Callable, Sequence
from typing import Any, final

VERSION: int

@final
class Rows(Sequence[tuple[bytes | None, ...]]):
    promises: Any
    @staticmethod
    def of(
        rows: list[tuple[bytes | None, ...]], forms: tuple[int | Callable[[bytes], bytes], ...]
    ) -> Rows: ...
    @property
    def definitions(self) -> bytes: ...
    def __getitem__(self, index: Any) -> Any: ...
    def __len__(self) -> int: ...

@final
class Results:
    def __new__(cls, room: int) -> Results: ...
    def feed(self, data: bytes | bytearray | memoryview) -> int: ...
    @property
    def found(self) -> list[Rows | None]: ...
    @property
    def status(self) -> int: ...
    @property
    def refusal(self) -> bytes: ...

Field = tuple[bytes, str, Callable[[bytes], bytes] | None]
Body = tuple[tuple[Field, ...], tuple[int, ...], tuple["Inset", ...]]
Inset = tuple[bytes, bool, tuple[Body, ...]]
Named = tuple[Field, tuple[tuple[bytes, Field], ...], int]
Level = tuple[int, int, bool, bool, bytes, bytes, bytes, Body, Named | None]

@final
class Encoder:
    def __new__(cls, levels: tuple[Level, ...]) -> Encoder: ...
    def documents(self, rows: list[Rows]) -> list[tuple[tuple[bytes, ...], bytes]] | None: ...

Rows_ = list[tuple[Any, ...]]

@final
class Decoder:
    def __new__(
        cls,
        columns: tuple[tuple[int, int, bool, bool], ...],
        wanted: tuple[tuple[int, int, Callable[[bytes], Any] | None], ...],
        missing: object,
        inflate: Callable[[bytes], bytes],
    ) -> Decoder: ...
    def decode(
        self, kind: int, buf: bytes, offset: int, end: int
    ) -> tuple[Rows_, Rows_, int] | None: ...

@final
class Scanner:
    def __new__(
        cls,
        kinds: tuple[Any, ...],
        change: type,
        ignored: bytes,
        shown: int,
        is_mariadb: bool,
        most: int,
        inflate: Callable[[bytes, int], bytes],
    ) -> Scanner: ...
    def know(
        self, body: bytes, watched: object, table: object, decoder: Decoder | None
    ) -> None: ...
    def forget(self) -> None: ...
    def scan(
        self, buf: bytes, at: int, checksum_size: int, most: int, watched_by_id: dict[bytes, Any]
    ) -> tuple[int, int, list[float], list[Any], int, tuple[Any, ...], Any] | None: ...
