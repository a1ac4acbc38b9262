"""A worker's listeners: they accept, are closed, and those who still wait then are answered."""

import asyncio
import contextlib
import functools
import socket
import sys
from collections.abc import Callable
from typing import Any

from echoserver.protocols.udp import UdpEcho
from echoserver.sockets import listeners
from echoserver.transport.connection import Connection
from echoserver.transport.context import Context
from echoserver.transport.layer import Layer

_ACCEPTED = 16  # connections in a turn of the loop

Factory = Callable[[], Connection | Layer]
"""Makes the protocol of a new connection."""


class Accepting:
    """Accepts connections at the listeners it is given, and reads datagrams."""

    __slots__ = ("_context", "_factory", "_held", "_servers", "_udp")

    def __init__(self, context: Context, factory: Callable[[str], Factory]) -> None:
        """factory: by the name of a protocol."""
        self._context = context
        self._factory = factory
        self._servers: list[asyncio.AbstractServer] = []
        self._held: list[tuple[socket.socket, Factory, bool]] = []
        self._udp: list[tuple[socket.socket, UdpEcho]] = []

    async def listen(self, given: list[listeners.Listener]) -> None:
        """Serve on sockets that listen."""
        for each in given:
            if each.endpoint.protocol == "udp":
                echo = UdpEcho(each.socket, self._context.buffer)
                self._udp.append((each.socket, echo))
                self._context.loop.add_reader(each.socket, echo.readable)
                continue
            factory = self._factory(each.endpoint.protocol)
            self._held.append((each.socket.dup(), factory, each.own))
            create: Any = self._context.loop.create_server
            if each.endpoint.family == socket.AF_UNIX:
                create = self._context.loop.create_unix_server
                if sys.version_info >= (3, 13):  # its file is for the supervisor to remove, or not ours at all
                    create = functools.partial(create, cleanup_socket=False)
            if self._context.on_uvloop:
                self._servers.append(await create(factory, sock=each.socket, backlog=self._context.config.backlog))
            else:  # asyncio (CPython 3.11 to 3.13) accepts as many in a turn as the backlog that it is told of
                self._servers.append(await create(factory, sock=each.socket, backlog=_ACCEPTED))
                each.socket.listen(self._context.config.backlog)

    def flush_counters(self) -> None:
        """Add to the worker's counters what the datagrams have come to."""
        for _, echo in self._udp:
            echo.flush_counters(self._context.counts)

    @property
    def own(self) -> bool:
        """Whether a socket is this worker's alone: who comes to it too late comes to nobody else."""
        return any(own for _, _, own in self._held)

    def pause(self) -> None:
        """Accept nothing from the next turn of the loop on, in which the listeners are closed."""
        if not self._context.on_uvloop:  # asyncio loses those it has accepted in a turn if the next closes its server
            for server in self._servers:
                for each in server.sockets:  # type: ignore[attr-defined]  # typeshed: only of its subclass
                    self._context.loop.remove_reader(each.fileno())

    def close(self) -> None:
        """Close the listeners, but for what refuse_waiting() needs."""
        for server in self._servers:
            server.close()
        for bound, _ in self._udp:
            self._context.loop.remove_reader(bound)
            bound.close()
        self._udp.clear()

    async def refuse_waiting(self, alone: bool) -> None:
        """Answer those that the kernel has accepted and we have not: closing the socket would reset them.

        Who waits at a socket that others have too waits for them, or for the next server.
        """
        waiting = []
        for listener, factory, own in self._held:
            if own and not alone:
                with contextlib.suppress(OSError):
                    for _ in range(self._context.config.backlog):
                        waiting.append((factory, listener.accept()[0]))
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # the supervisor has it too, for a moment
            listener.close()
        for factory, accepted in waiting:
            await self._context.loop.connect_accepted_socket(factory, accepted)
