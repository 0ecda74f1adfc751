"""A small real HTTP/1.1 server in place of a model server's, on loopback, in the test's own event loop."""

import asyncio
import contextlib

from tests.support.ports import free_port


class Replica:
    """Answers with its name; `/slow` waits until it is `released`.

    It may stop and start again: no connection is given its port meanwhile.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.requests = 0
        self.released = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Refuse from now on: nobody listens on the port any more."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        await self._server.wait_closed()

    async def answer(self, head: bytes, body: bytes) -> tuple[str, bytes]:
        """Return what follows the version, with headers, and the body."""
        if b" /slow " in head:
            await self.released.wait()
        return "200 OK\r\n", self.name.encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                received = await _body(head.lower(), reader)
                self.requests += 1
                begin, body = await self.answer(head, received)
                writer.write(f"HTTP/1.1 {begin}content-length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        self._connections.discard(writer)
        writer.close()


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"transfer-encoding" not in fields:
        return await reader.readexactly(int(fields.get(b"content-length", b"0")))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body
