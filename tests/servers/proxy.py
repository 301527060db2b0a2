"""A TCP proxy that can be cut, stalled, slowed and reset, for the fault suite.

One event loop in a thread of its own owns every socket; each fault is in force when its method
returns, for the connections that stand as for those that come, until heal().
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

from tests.servers.process import free_port

_CHUNK_BYTES = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST (socket(7))


class TcpProxy:
    """Listens on 127.0.0.1 at one `port` for its whole life, and passes all to the target.

    `connections` counts those accepted, `bytes_to_server` and `bytes_to_client` what was passed on.
    `gate` is asked about each chunk on its way to the server: without its leave the connection
    breaks before the chunk arrives. It runs in the loop's thread, and must not call the proxy.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self.connections = 0
        self.bytes_to_server = 0
        self.bytes_to_client = 0
        self.gate: Callable[[bytes], bool] | None = None
        self._target = (target_host, target_port)
        self._delay_s = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tcp-proxy", daemon=True
        )
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def cut(self) -> None:
        """Close every connection (FIN) and refuse new ones."""
        self._call(self._stop_listening)
        self._call(self._close_all)

    def stall(self) -> None:
        """Keep connections open and accept new ones, but pass nothing on."""
        self._call(self._flowing.clear)

    def delay(self, seconds: float) -> None:
        """Hold back every chunk (64 KiB at most) for this long, each way."""
        self._call(lambda: setattr(self, "_delay_s", seconds))

    def reset_connections(self) -> None:
        """Break every connection with RST on both sides; new ones work."""
        self._call(self._reset_all)

    def retarget(self, host: str, port: int) -> None:
        """Lead to another server from now on, as a failover does; what stands is broken."""
        self._target = (host, port)
        self.reset_connections()

    def heal(self) -> None:
        """End cut, stall and delay. What a stall held back is passed on."""
        self.delay(0)
        self._call(self._flowing.set)
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def close(self) -> None:
        """Cut, and end the thread."""
        if self._thread.is_alive():
            self.cut()
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    @property
    def open_connections(self) -> int:
        return len(self._writers) // 2

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, act: Callable[[], object]) -> None:
        """Run a function in the loop's thread and wait for it."""

        async def run() -> None:
            act()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._accept, self.host, self.port, limit=_CHUNK_BYTES
            )

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _close_all(self) -> None:
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()

    def _reset_all(self) -> None:
        for writer in self._writers:
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    async def _finish(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        writers = [writer]
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target, limit=_CHUNK_BYTES)
            self._writers.add(up_writer)
            writers.append(up_writer)
            await self._exchange((reader, writer), (up_reader, up_writer))
        except (OSError, asyncio.CancelledError):
            pass  # the target refuses, or the proxy was told to break off
        finally:
            for each in writers:
                each.close()
                self._writers.discard(each)
            self._tasks.discard(task)

    async def _exchange(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Pass on what either side says, until one of them ends."""
        await self._until_first(
            [
                asyncio.ensure_future(self._pump(client[0], server[1], "bytes_to_server")),
                asyncio.ensure_future(self._pump(server[0], client[1], "bytes_to_client")),
            ]
        )

    async def _until_first(self, pumps: list[asyncio.Future[None]]) -> None:
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counter: str
    ) -> None:
        """Move bytes one way until the end of the stream; who receives them finds them counted."""
        while data := await reader.read(_CHUNK_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._flowing.wait()
            if counter == "bytes_to_server" and self.gate is not None and not self.gate(data):
                return
            setattr(self, counter, getattr(self, counter) + len(data))
            writer.write(data)
            await writer.drain()
