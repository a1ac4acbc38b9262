"""grpcio, with asyncio. Messages are bytes to it: neither read nor made by protobuf."""

import asyncio
import sys

import grpc

PENDING = [(f"grpc.server.max_pending_requests{each}", 1 << 16) for each in ("", "_hard_limit")]
"""Calls that may wait: by default some beyond 1,000 are ended, and a load may have 5,000 at a time."""


async def echo(message: bytes, context: object) -> bytes:
    """Answer a unary call."""
    return message


async def serve(port: int) -> None:
    """Serve on a port of 127.0.0.1."""
    server = grpc.aio.server(options=PENDING)
    methods = {"Unary": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Echo", methods)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


asyncio.run(serve(int(sys.argv[1])))
