"""TCP lines of the loopback that can be cut: one a worker and server, all of them in one thread.

Two ways to cut. `hold`: the line swallows nothing and delivers nothing, new connections are taken and hear nothing; when
it is mended, what was under way arrives late, as it does after a real partition. `refuse`: connections are reset, new
ones refused.
"""

import asyncio
import contextlib
import socket
import struct
import threading

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536
START_S_MAX = 10.0  # a loop turn takes milliseconds; a busy machine, a second


class Lines:
    """The thread that carries every line."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lines", daemon=True)
        self._thread.start()

    def line(self, to_port):
        return Line(self, to_port)

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_S_MAX)

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S_MAX)


class Line:
    """Carries bytes between `port` and `to_port` until it is cut."""

    def __init__(self, lines, to_port):
        self._lines, self._to_port = lines, to_port
        self._pairs, self._tasks, self._server = set(), set(), None
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        lines.run(self._begin())

    def hold(self):
        self._lines.run(self._hold())

    def refuse(self):
        self._lines.run(self._refuse())

    def mend(self):
        self._lines.run(self._mend())

    async def _begin(self):
        self._open = asyncio.Event()
        await self._mend()

    async def _hold(self):
        self._open.clear()

    async def _refuse(self):
        self._server.close()
        self._server = None
        for writer in list(self._pairs):
            # Without a lingering close of no seconds the peer would see an orderly end.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _mend(self):
        self._open.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, HOST, self.port, reuse_address=True)

    async def _connected(self, reader, writer):
        try:
            there, back = await asyncio.open_connection(HOST, self._to_port)
        except OSError:
            writer.transport.abort()
            return
        self._pairs |= {writer, back}
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        self._pairs -= {writer, back}

    async def _carry(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
