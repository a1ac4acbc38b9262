"""WebSocket echo on picows, on uvloop, as its documentation writes a listener: the payload is not copied on its way."""

import asyncio
import sys

import picows
import uvloop


class Echo(picows.WSListener):
    """Sends each frame of a message as it came."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type not in (picows.WSMsgType.PING, picows.WSMsgType.PONG):
            transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin)


async def serve(port: int) -> None:
    """Serve on a port of 127.0.0.1."""
    server = await picows.ws_create_server(lambda _: Echo(), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(serve(int(sys.argv[1])))
