"""TCP echo on asyncio's own loop, as its documentation writes a protocol."""

import asyncio
import sys


class Echo(asyncio.Protocol):
    """Writes what it is given."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(where: str) -> None:
    """Serve on a port of 127.0.0.1, or on a unix socket's path."""
    loop = asyncio.get_running_loop()
    server: asyncio.Server
    if where.startswith("/"):
        server = await loop.create_unix_server(Echo, where)
    else:
        server = await loop.create_server(Echo, "127.0.0.1", int(where), backlog=4096)
    await server.serve_forever()


asyncio.run(serve(sys.argv[1]))
