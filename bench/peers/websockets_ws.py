"""WebSocket echo on websockets' asyncio server, on uvloop, without compression and pings."""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    """Send each message as it came."""
    async for message in connection:
        await connection.send(message)


async def main(port: int) -> None:
    """Serve on a port of 127.0.0.1."""
    server = serve(
        echo, "127.0.0.1", port, compression=None, ping_interval=None, max_size=None, backlog=4096
    )  # fmt: skip
    async with server as serving:
        await serving.serve_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main(int(sys.argv[1])))
