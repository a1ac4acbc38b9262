"""gRPC echo (gRPC over HTTP/2): each message of a call comes back as it came, whatever the service and the method are.

Most calls never get here: a message that comes whole, with the end of its call, is answered where it was read
(connection.py). Messages are not looked into, and may be compressed.
"""

import asyncio
import math
import re
import sys
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from echoserver.answers import grpc_controls
from echoserver.answers.controls import Caps
from echoserver.answers.grpc_controls import GrpcControls, percent_encoded
from echoserver.config import values
from echoserver.protocols.http1.site import Site
from echoserver.protocols.http2.taker import Taker
from echoserver.transport.context import Context
from echoserver.wire import grpc_messages as messages
from echoserver.wire import hpack
from echoserver.wire.fifo import Fifo
from echoserver.wire.grpc_messages import BadMessageError
from echoserver.wire.http2_reader import Head
from echoserver.wire.response import HttpError

_MOST = 64 << 10  # bytes of a message to a service of our own
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_NOT_METADATA = re.compile(rb"grpc-.*|content-type|content-length|te|host|x-echo|user-agent")
_NO_CONTROLS = GrpcControls()


class CallStream(Protocol):
    """What a call asks of its stream.

    begin_response: with these fields behind those of every response; ends: it is all of it. send: content, now or when
    the client takes it. end_with: trailers, behind what waits. taken: so much content is done with.
    """

    complete: bool
    head: Head
    status: int

    @property
    def context(self) -> Context: ...
    @property
    def site(self) -> Site: ...
    def account(self) -> None: ...
    def begin_response(self, block: bytes, *, ends: bool) -> None: ...
    def end_with(self, trailers: bytes) -> None: ...
    def send(self, content: bytes) -> None: ...
    def taken(self, size: int) -> None: ...


class GrpcCall(Taker):
    """One call: content in, content out."""

    __slots__ = (
        "_answers", "_controls", "_deadline", "_due", "_ended", "_header", "_left", "_own", "_request", "_stream",
        "_timer", "_waiting",
    )  # fmt: skip

    _header: bytes
    """What has come of the five bytes before a message."""
    _left: int
    """Bytes of a message that are still to come."""
    _due: float
    """When the next message may go (monotonic())."""
    _own: Callable[[bytes], bytes | None] | None
    """Answers a message to a service of our own; None: it is an echo."""
    _waiting: Fifo
    """Content that has come, and is to go later."""

    def __init__(self, stream: CallStream) -> None:
        self._stream = stream
        self._controls = _NO_CONTROLS
        self._header, self._left, self._due = b"", 0, 0.0
        self._own = None
        self._request = bytearray()
        self._waiting = Fifo()
        self._timer: asyncio.Handle | None = None
        self._deadline: asyncio.Handle | None = None
        self._answers = self._ended = False

    @property
    def kept(self) -> int:
        return len(self._waiting) + len(self._request)

    def begin(self, *, ends: bool) -> None:
        """The call has come; ends: without a message."""
        self._begin()
        if ends:
            self._take(b"")

    def _begin(self) -> None:
        stream, loop = self._stream, self._stream.context.loop
        for name, value in stream.head.grpc:
            if name == b"grpc-timeout" and self._deadline is None and (found := _TIMEOUT.fullmatch(value)):
                seconds = int(found[1]) * _UNITS[found[2]]
                self._deadline = loop.call_later(min(seconds, 1e6), self._overdue)
        asked = b"&".join(value for name, value in stream.head.grpc if name == b"x-echo")
        config = stream.context.config
        if asked and config.controls:
            caps = Caps(config.max_delay or math.inf, config.max_size or sys.maxsize)
            try:
                self._controls = grpc_controls.read(asked, caps)
            except values.ConfigError as error:
                self._end(messages.INVALID_ARGUMENT, str(error).encode())
                return
        path = stream.head.path
        if path in messages.REFLECTIONS:
            self._own = messages.reflect
        elif path in messages.OWN:
            self._own = self._check_health
        delay = self._controls.delay
        if delay:
            self._due = monotonic() + delay
            self._timer = loop.call_later(delay, self._go_on)
        else:
            self._answer()

    def _answer(self) -> None:
        """Begin the answer, or give the status that is asked for."""
        self._answers = True
        status = self._controls.status
        if status:
            self._end(status, self._controls.message)
        else:
            self._stream.begin_response(self._fields(), ends=False)

    def _fields(self) -> bytes:
        """What the response begins with, as far as it is the call's own."""
        head = self._stream.head
        if not self._controls.metadata:
            return head.block
        own = (each for each in head.fields if each[0][:1] != b":" and not _NOT_METADATA.fullmatch(each[0]))
        return head.block + b"".join(hpack.literal(name, value) for name, value, *_ in own)

    def take(self, content: bytes, *, ends: bool) -> None:
        self._take(content)

    def _take(self, content: bytes) -> None:
        if self._ended:
            return
        self._waiting.add(content)
        self._go_on()

    def _go_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        stream = self._stream
        if not self._answers:
            early = self._due - monotonic()
            if early > 0:
                self._timer = stream.context.loop.call_later(early, self._go_on)
                stream.account()
                return
            self._answer()
        while self._waiting and not self._ended:
            if not self._left:
                if not self._begin_message():
                    break
            else:
                piece = self._waiting.take(self._left)
                self._left -= len(piece)
                self._pass(bytes(piece))
            if not self._left and self._own is not None:
                self._serve()
        stream.account()
        if stream.complete and not self._waiting and not self._ended:
            if self._header or self._left:
                self._end(messages.INTERNAL, b"the last message is not complete")
            elif self._own != self._check_health or stream.head.path == messages.HEALTH_CHECK:
                self._end(messages.OK)

    def _begin_message(self) -> bool:
        """Pass on what is before a message, if all of that has come, and its time."""
        if not self._header and self._is_early():
            return False
        while self._waiting and len(self._header) < messages.PREFIX:
            self._header += self._waiting.take(messages.PREFIX - len(self._header))
        if len(self._header) < messages.PREFIX:
            return False
        self._left = int.from_bytes(self._header[1:], "big")
        self._pass(self._header)
        self._header = b""
        if self._controls.pace:
            self._due = monotonic() + self._controls.pace
        return True

    def _is_early(self) -> bool:
        """Whether the next message has to wait for its time."""
        early = self._due - monotonic() if self._controls.pace else 0.0
        if early <= 0:
            return False
        self._timer = self._stream.context.loop.call_later(early, self._go_on)
        return True

    def _pass(self, data: bytes) -> None:
        if self._own is None:
            self._stream.send(data)
            self._stream.taken(len(data))
        else:
            self._request += data
            self._stream.taken(len(data))
            if len(self._request) > _MOST or self._left > _MOST:
                self._end(messages.INVALID_ARGUMENT, b"the message is too long")

    # --- services of our own ---

    def _serve(self) -> None:
        """A whole message has come to one."""
        request, own = bytes(self._request), self._own
        self._request.clear()
        if own is None or self._ended:
            return
        if request[0]:
            self._end(messages.UNIMPLEMENTED, b"compressed messages are not understood here")
            return
        try:
            answer = own(request[messages.PREFIX :])
        except BadMessageError:
            self._end(messages.INVALID_ARGUMENT, b"the message is malformed")
            return
        if answer is not None:
            self._stream.send(messages.framed(answer))

    def _check_health(self, request: bytes) -> bytes:
        messages.check_health(request)
        return messages.SERVING if self._stream.site.ready else messages.NOT_SERVING

    def unready(self) -> None:
        if self.is_endless:
            self._stream.send(messages.framed(messages.NOT_SERVING))

    @property
    def is_endless(self) -> bool:
        return self._answers and not self._ended and self._stream.head.path == messages.HEALTH_WATCH

    def drain(self) -> None:
        if self.is_endless:
            self._end(messages.UNAVAILABLE, b"the server is shutting down")

    def is_waited_for(self) -> bool:
        return self._timer is not None or self.is_endless

    # --- the end ---

    def refuse(self, error: HttpError) -> bool:
        code = messages.DEADLINE_EXCEEDED if error.status == 408 else messages.RESOURCE_EXHAUSTED
        self._end(code, error.reason.encode())
        return True

    def _overdue(self) -> None:
        self._end(messages.DEADLINE_EXCEEDED, b"the deadline of the call has passed (grpc-timeout)")

    def _end(self, status: int, message: bytes = b"") -> None:
        """Say how the call has ended."""
        if self._ended:
            return
        self._stop()
        trailers = hpack.literal(b"grpc-status", b"%d" % status)
        if message:
            trailers += hpack.literal(b"grpc-message", percent_encoded(message))
        stream = self._stream
        if stream.status:
            stream.end_with(trailers)
        else:
            stream.begin_response(self._fields() + trailers, ends=True)

    def on_closed(self, *, cut_off: bool) -> None:
        self._stop()

    def _stop(self) -> None:
        self._ended = True
        for each in (self._timer, self._deadline):
            if each is not None:
                each.cancel()
        self._timer = self._deadline = None
        self._waiting.clear()
        self._request.clear()
