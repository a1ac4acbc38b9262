"""Content under way: an object of one of these classes, of Gathered (gather.py) or of Demand (demand.py)."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from echoserver.protocols.http1.site import Site
from echoserver.protocols.http1.states import State
from echoserver.transport.connection import Connection
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.transport.readers import Lender, RelayContent
from echoserver.wire import response
from echoserver.wire.chunked import ChunkedDecoder
from echoserver.wire.request import Request
from echoserver.wire.response import HttpError

_MANY_PARTS = 64


class Content:
    """The base class. Its only instance, NO_CONTENT, means that there is none.

    begun: the answer has begun. complete: all of the content has come, and the answer has not ended (Demand only).
    kept: bytes of content that wait. received: bytes of content read. answered: bytes of content sent or queued.
    status: that of the answer. in_place: it reads from the transport in its connection's place. After the answer the
    connection switches (goes on with another protocol), resets, or closes; else it goes on with the next request.
    """

    __slots__ = ()

    begun: bool = False
    complete: bool = False
    status: int = 200
    in_place: bool = False
    switches: bool = False
    closes: bool = False

    @property
    def resets(self) -> bool:
        return False

    @property
    def received(self) -> int:
        return 0

    @property
    def answered(self) -> int:
        return 0

    @property
    def kept(self) -> int:
        return 0

    def feed(self, data: bytes, position: int, out: list[bytes]) -> int:
        """Take content from data, from position on.

        Returns the end of the content in data if the answer is complete; what is unsent of that is then in out.
        Otherwise returns -1: data was taken or left with the connection, and out is empty. Raises HttpError.
        """
        raise AssertionError("the transport does not read for the connection now")

    def regulate(self) -> None:
        """Bytes of the next request have come: decide whether to read on."""

    def resumed(self) -> None:
        """The kernel has taken all that was sent."""

    def is_waited_for(self) -> bool:
        """Whether the server, not the client, has to act next."""
        return False

    def stop(self) -> None:
        """The connection has no use for it any more, and takes the transport back where it was lent."""


NO_CONTENT = Content()


class Exchange(Protocol):
    """What an answer on demand asks of the connection or the stream that it is given on.

    request: the one under way, which a drain may have made the last. behind: the client does not take all that it is
    sent. account: what is kept has changed. pending_bytes: how much waits that has been read behind the request.
    on_answered: the answer is complete, in another turn than that in which the request came. send_head: of a response,
    as HTTP/1.1 has it; send_content and send_end: what follows it; send_whole: all at once. chunked: the content has no
    length of its own, where that has to be said.
    """

    origin: Origin
    stopped: int

    @property
    def request(self) -> Request: ...
    @property
    def context(self) -> Context: ...
    @property
    def site(self) -> Site: ...
    @property
    def transport(self) -> asyncio.Transport: ...
    @property
    def behind(self) -> bool: ...
    def account(self) -> None: ...
    def facts(self) -> Mapping[str, object]:
        """What only this version of HTTP has, for a description."""

    def go_on_reading(self, why: int) -> None: ...
    def on_answered(self) -> None: ...
    def pending_bytes(self) -> int: ...
    def send_content(self, content: bytes | bytearray, *, chunked: bool) -> None: ...
    def send_continue(self) -> None: ...
    def send_end(self, *, chunked: bool) -> None: ...
    def send_head(self, head: bytes) -> None: ...
    def send_whole(self, head: bytes, content: bytes, *, chunked: bool) -> None: ...
    def stop_reading(self, why: int) -> None: ...


class Owner(Lender, Exchange, Protocol):
    """What content asks of its connection besides.

    postpone: the rest of data has to wait for the connection's next turn. keep_until_answered: it belongs to the next
    request. relay: so many bytes are still to come, and are to be moved on as they do. on_whole, on_same and on_another
    are for Gathered, which says when it calls them.
    """

    write_queue: bytearray | None
    received: int
    state: State

    def flush(self, out: list[bytes]) -> None: ...
    def account_buffered(self, size: int) -> None: ...
    def keep_until_answered(self, data: bytes, position: int) -> None: ...
    def postpone(self, data: bytes, position: int) -> None: ...
    def on_another(self, data: bytes) -> None: ...
    def on_same(self, content: "Content", request: Request) -> None: ...
    def on_whole(self, buffer: memoryview, place: int, end: int, rest: bytes) -> None: ...
    def relay(self, left: int) -> None: ...
    def send(self, data: bytes | bytearray | memoryview) -> None: ...
    def send_list(self, parts: list[bytes]) -> None: ...


def echo_fields(request: Request, length: int | None) -> bytes:
    """The rest of the head of an echo, after Site.prefix; length None for chunked."""
    return response.fields(request.content_type, length, request.connection, request.extra)


class Parts(Content):
    """Content of a known length, kept as it was read until all of it has come, or it is too much to be kept."""

    __slots__ = ("_connection", "_left", "_parts", "_relays")

    def __init__(self, connection: Owner, *, relays: bool) -> None:
        """relays: it is too long to be kept."""
        self._connection = connection
        self._relays = relays
        self._left = connection.request.content_length
        self._parts: list[bytes] = []

    @property
    def received(self) -> int:
        return self._connection.request.content_length - self._left

    @property
    def kept(self) -> int:
        return self.received if self._parts else 0

    @property
    def answered(self) -> int:
        return 0 if self._left or self._connection.request.no_body else self.received

    def feed(self, data: bytes, position: int, out: list[bytes]) -> int:
        connection = self._connection
        no_body = connection.request.no_body
        end = min(position + self._left, len(data))
        self._left -= end - position
        if not no_body:
            self._parts.append(data[position:end])
            if len(self._parts) > _MANY_PARTS:
                self._parts = [b"".join(self._parts)]
        if not self._left:
            self._send()
            return end
        if (self._relays or connection.context.under_pressure) and not no_body:
            self._send()
            connection.relay(self._left)
        else:
            connection.account()
        return -1

    def _send(self) -> None:
        """Send the head, and what there is of the content."""
        connection, parts = self._connection, self._parts
        self._parts = []
        connection.account()
        connection.send_list([connection.site.prefix + connection.request.answer, *parts])


class Chunked(Content):
    """Chunked content: echoed in chunks as it comes, or with its length where the decoder has all of it at once."""

    __slots__ = ("_connection", "_decoder", "_received", "begun")

    def __init__(self, connection: Owner) -> None:
        self._connection = connection
        self._decoder = ChunkedDecoder()
        self._received = 0
        self.begun = False

    @property
    def received(self) -> int:
        return self._received

    @property
    def answered(self) -> int:
        return 0 if self._connection.request.no_body else self._received

    def feed(self, data: bytes, position: int, out: list[bytes]) -> int:
        connection = self._connection
        request, decoder = connection.request, self._decoder
        content, position = decoder.feed(data, position)
        check_length(self._received + len(content), connection.context.config.max_body)
        self._received += len(content)
        complete = decoder.complete
        if not self.begun and (content or complete):
            self.begun = not complete
            out += connection.site.prefix, echo_fields(request, len(content) if complete else None)
        if content and not request.no_body:
            out.append(response.chunk(content) if self.begun else content)
        if complete:
            if self.begun and not request.no_body:
                out.append(response.LAST_CHUNK)
            return position
        connection.flush(out)
        if position < len(data):
            connection.postpone(data, position)
        return -1


def check_length(length: int, most: int) -> None:
    """Raise HttpError where chunked content of so many bytes is longer than --max-body (0: any length will do)."""
    if 0 < most < length:
        raise HttpError(413, f"the content has more than {most} bytes (--max-body)")


class Relayed(Content):
    """Content of which more is still to come than can be kept: it is moved on as it comes."""

    __slots__ = ("_length", "_relay")

    begun = True
    in_place = True

    def __init__(self, connection: Connection, length: int, left: int, done: Callable[[], None]) -> None:
        """length: bytes of all of it. done: called when all has been moved."""
        self._length = length
        self._relay = RelayContent(connection, left, done)
        connection.transport.set_protocol(self._relay)

    @property
    def received(self) -> int:
        return self._length - self._relay.left

    answered = received
