"""UDP echo on asyncio's own loop, as its documentation writes a protocol."""

import asyncio
import sys
from typing import cast


class Echo(asyncio.DatagramProtocol):
    """Sends each datagram to whom it came from."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # it is none by class (3.11)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def serve(port: int) -> None:
    """Serve on a port of 127.0.0.1."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, ("127.0.0.1", port))
    await loop.create_future()  # until it is ended


asyncio.run(serve(int(sys.argv[1])))
