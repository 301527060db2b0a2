"""A proxy before a database server that answers chosen queries with an error of a chosen number.

    with RefusingProxy(server.host, server.port) as proxy:
        proxy.refuse(1213, "Deadlock found", times=2)     # whatever is asked next
        proxy.refuse(1146, of="FROM cases", times=1000)     # such a query, until `relent`

Speaks just enough of the protocol: the greeting loses its offer of TLS, so that queries can be
read, and a COM_QUERY that is refused never reaches the server.
"""

import asyncio
import random
import threading
from dataclasses import dataclass

from tests.servers.proxy import TcpProxy

_SSL = 0x0800  # CLIENT_SSL, in the lower two bytes of the server's capabilities
_QUERY = 3  # COM_QUERY
_HEAD = 4
_GONE = 0  # a "number" for closing the connection instead of an answer


@dataclass
class _Refusal:
    code: int
    text: str
    of: str
    left: int
    chance: float


class RefusingProxy(TcpProxy):
    """`refused` has numbers and queries that were refused, `seen` counts all queries."""

    def __init__(self, target_host: str, target_port: int, *, seed: int = 0) -> None:
        self._refusals: list[_Refusal] = []
        self._lock = threading.Lock()
        self._chance = random.Random(seed)
        self.refused: list[tuple[int, str]] = []
        self.seen = 0
        super().__init__(target_host, target_port)

    def refuse(
        self, code: int, text: str = "", *, of: str = "", times: int = 1, chance: float = 1.0
    ) -> None:
        """Answer the next queries that contain `of` with an error; 0 breaks the connection off."""
        with self._lock:
            self._refusals.append(_Refusal(code, text or f"error {code}", of, times, chance))

    def relent(self) -> None:
        """Let everything through from now on."""
        with self._lock:
            self._refusals.clear()

    @property
    def is_relenting(self) -> bool:
        """Whether nothing more is going to be refused."""
        with self._lock:
            return not self._refusals

    async def _exchange(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        greeting = await _packet(server[0])
        client[1].write(_without_tls(greeting))
        await client[1].drain()
        pumps = [
            asyncio.ensure_future(self._questions(client[0], client[1], server[1])),
            asyncio.ensure_future(self._pump(server[0], client[1], "bytes_to_client")),
        ]
        await self._until_first(pumps)

    async def _questions(
        self,
        reader: asyncio.StreamReader,
        answers: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
    ) -> None:
        while True:
            packet = await _packet(reader)
            await self._flowing.wait()
            # A command begins with packet 0; those of the handshake have higher numbers.
            is_query = packet[3] == 0 and packet[_HEAD] == _QUERY
            if is_query and (refusal := self._refusal(packet[_HEAD + 1 :])) is not None:
                if refusal.code == _GONE:
                    return
                answers.write(_error(refusal.code, refusal.text))
                await answers.drain()
                continue
            server.write(packet)
            await server.drain()

    def _refusal(self, query: bytes) -> _Refusal | None:
        sql = query.decode("utf-8", "replace")
        with self._lock:
            self.seen += 1
            for refusal in self._refusals:
                if refusal.of in sql and self._chance.random() < refusal.chance:
                    refusal.left -= 1
                    if refusal.left <= 0:
                        self._refusals.remove(refusal)
                    self.refused.append((refusal.code, sql))
                    return refusal
        return None


async def _packet(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readexactly(_HEAD)
        return head + await reader.readexactly(int.from_bytes(head[:3], "little"))
    except asyncio.IncompleteReadError:
        raise ConnectionResetError from None


def _without_tls(greeting: bytes) -> bytes:
    """Protocol::HandshakeV10: version, text up to a 0, thread (4), 8 bytes, 0, capabilities (2)."""
    at = greeting.index(b"\0", _HEAD + 1) + 1 + 4 + 8 + 1
    capabilities = int.from_bytes(greeting[at : at + 2], "little") & ~_SSL
    return greeting[:at] + capabilities.to_bytes(2, "little") + greeting[at + 2 :]


def _error(code: int, text: str) -> bytes:
    """ERR_Packet with the general SQLSTATE, as the first answer to a command."""
    body = b"\xff" + code.to_bytes(2, "little") + b"#HY000" + text.encode()
    return len(body).to_bytes(3, "little") + b"\x01" + body
