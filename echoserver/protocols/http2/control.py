"""What clients of HTTP/2 send besides ordinary requests: frames of each kind (RFC 9113 section 6), and their price."""

from collections.abc import Callable

from echoserver.observe.access_log import NO_ANSWER
from echoserver.protocols.http2.output import Output
from echoserver.protocols.http2.site import Http2Site
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.wire import http2_frames as frames
from echoserver.wire.hpack import Table
from echoserver.wire.http2_frames import Http2Error
from echoserver.wire.http2_reader import Head, Http2Reader

DRAIN_PING = b"draining"
"""What a drain's PING says: once it comes back, the client has read the GOAWAY before it."""

BURST = 2000
"""Tokens that a client has at most: frames that ask for nothing take some, requests that are answered bring some."""
_PRICE = 2
_RATE = 200  # tokens a second
_STREAMS_GRANTED = 256  # numbers of streams that bring WINDOW_UPDATE at a time: a client may leave some out
_CONTINUATIONS = 8  # frames of a block besides the first

_OF_STREAMS = frozenset({frames.DATA, frames.PRIORITY, frames.RST_STREAM})
_OF_CONNECTIONS = frozenset({frames.SETTINGS, frames.PING, frames.GOAWAY, frames.PRIORITY_UPDATE})
_PRICED_BY_THEMSELVES = frozenset({
    frames.DATA, frames.HEADERS, frames.CONTINUATION, frames.PUSH_PROMISE, frames.WINDOW_UPDATE,
})  # fmt: skip
_NAMES = {
    frames.DATA: "DATA", frames.PRIORITY: "PRIORITY", frames.RST_STREAM: "RST_STREAM", frames.SETTINGS: "SETTINGS",
    frames.PING: "PING", frames.GOAWAY: "GOAWAY", frames.WINDOW_UPDATE: "WINDOW_UPDATE",
    frames.PRIORITY_UPDATE: "PRIORITY_UPDATE",
}  # fmt: skip
_DEPENDS_ON_ITSELF = 0x100  # among the flags of HEADERS


class Control(Output):
    """The common part of what is read: not usable by itself."""

    __slots__ = (
        "_block_flags", "_block_stream", "_draining", "_granted", "_owed_since", "_since", "_table", "_tokens",
        "reader",
    )  # fmt: skip

    reader: Http2Reader
    _table: Table
    """The client's dynamic table."""
    _block_flags: int
    """Those of the HEADERS of a block that goes on in CONTINUATION; _block_stream: its stream."""
    _owed_since: float
    """When the client began to owe the rest of the preface, or of a block; 0: it does not."""
    _tokens: int
    """What the client has left for frames that ask for nothing; _since: when it was last given some."""
    _granted: int
    """The last stream that there were grants for."""
    _draining: float
    """Since when a drain has been under way."""

    def __init__(self, context: Context, origin: Origin, shared: Http2Site) -> None:
        super().__init__(context, origin, shared)
        http1 = self.site.reader
        if origin.tls is not None and (certificate := origin.tls.getpeercert()):
            http1 = self.site.reader_for(certificate)
        self.reader = shared.reader(http1)
        self._table = self.reader.root
        self._block_stream = self._block_flags = self._granted = 0
        self._tokens = BURST
        self._since = self._owed_since = context.now
        self._draining = 0.0

    # --- what frames cost ---

    def _charge(self) -> None:
        """A frame that is no request, and costs its client less than this server. Raises Http2Error."""
        self._tokens -= _PRICE
        if self._tokens < 0:
            now = self.context.now
            self._tokens = min(BURST, int((now - self._since) * _RATE)) - _PRICE
            self._since = now
            if self._tokens < 0:
                raise Http2Error(frames.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def _charge_window_update(self) -> None:
        """The same for WINDOW_UPDATE, of which honest clients send some for each request and each DATA."""
        self.grants = min(BURST, self.grants + 2 * min(self._last - self._granted, _STREAMS_GRANTED))
        self._granted = self._last
        if self.grants > 0:
            self.grants -= 1
        else:
            self._charge()

    # --- frames ---

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, frame: bytes) -> None:
        """Any frame. Raises Http2Error."""
        if len(payload) > frames.MAX_SIZE:
            raise frames.too_long()
        if self._block is not None and (kind != frames.CONTINUATION or stream != self._block_stream):
            raise Http2Error(frames.PROTOCOL_ERROR, "a field section must not be interrupted")
        if kind in _OF_STREAMS:
            self._check_stream(kind, stream)
        elif stream and kind in _OF_CONNECTIONS:
            raise Http2Error(frames.PROTOCOL_ERROR, f"{_NAMES[kind]} must be on stream 0")
        if kind not in _PRICED_BY_THEMSELVES:
            self._charge()
        taken = _TAKES.get(kind)
        if taken is not None:  # section 4.1: others are ignored
            taken(self, flags, stream, payload, frame)

    def _check_stream(self, kind: int, stream: int) -> None:
        """Whether such a frame may be on a stream. Raises Http2Error."""
        if not stream:
            raise Http2Error(frames.PROTOCOL_ERROR, f"{_NAMES[kind]} must be on a stream")
        if kind != frames.PRIORITY and (stream > self._last or not stream & 1):
            raise Http2Error(frames.PROTOCOL_ERROR, f"{_NAMES[kind]} must not be on a stream that is idle")

    def _take_data(self, flags: int, number: int, payload: bytes, frame: bytes) -> None:
        size, ends = len(payload), bool(flags & frames.END_STREAM)
        if self._owed + self._uncredited + size > self._shared.window:
            raise Http2Error(frames.FLOW_CONTROL_ERROR, "more content was sent than the connection's window allows")
        content = frames.unpadded(payload) if flags & frames.PADDED else payload
        stream = self._find(number)
        if stream is None or stream.complete:
            self._owed += size
            if stream is not None or number not in self._forgiven:
                self._charge()
                self._forgive(number, frames.STREAM_CLOSED)
            elif not content:
                self._charge()
            return
        self._uncredited += size
        stream.uncredited += size
        if stream.uncredited + stream.owed > self._shared.stream_window:
            self._charge()
            stream.reset(frames.FLOW_CONTROL_ERROR)
            return
        if size != len(content):
            self.credit(stream, size - len(content))
        if flags > frames.END_STREAM or frame[5] >= 0x80:  # only what is known goes back (section 4.1)
            frame = b""
        if not content and not ends:
            self._charge()
            return
        stream.take(content, ends=ends, frame=frame)
        if stream.cut_off and stream.status != NO_ANSWER:  # its client made us reset it
            self._charge()
        elif content:
            self._tokens = min(BURST, self._tokens + _PRICE)

    def _forgive(self, number: int, code: int) -> None:
        """Reset a stream whose client may go on sending for a while."""
        stream = self._find(number)
        if stream is not None:
            stream.reset(code)
        else:
            self.put(frames.rst_stream(number, code))
        self._forgiven.append(number)

    def _take_headers(self, flags: int, number: int, payload: bytes, _: bytes) -> None:
        if not number & 1:
            raise Http2Error(frames.PROTOCOL_ERROR, "clients must open streams with odd numbers")
        block, depends_on = frames.field_section(payload, flags)
        self._block, self._block_stream, self._block_flags = [block], number, flags
        if depends_on == number:
            self._block_flags |= _DEPENDS_ON_ITSELF
        if flags & frames.END_HEADERS:
            self._take_block()
        else:
            self._owed_since = self.context.now
            self.keep(len(block))

    def _take_continuation(self, flags: int, _: int, payload: bytes, __: bytes) -> None:
        if self._block is None:
            raise Http2Error(frames.PROTOCOL_ERROR, "CONTINUATION must follow HEADERS")
        self._block.append(payload)
        most = max(self.context.config.max_header, frames.MAX_SIZE)
        if len(self._block) > _CONTINUATIONS + 1 or sum(map(len, self._block)) > most:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "a field section is longer, or in more frames, than it may be")
        if flags & frames.END_HEADERS:
            self._owed_since = 0.0
            self.keep(len(payload) - sum(map(len, self._block)))
            self._take_block()
        else:
            self.keep(len(payload))

    def _take_block(self) -> None:
        """A field section has come that is no ordinary request's, or not in one frame."""
        block, self._block = b"".join(self._block or ()), None
        number, ends = self._block_stream, bool(self._block_flags & frames.END_STREAM)
        stream = self._find(number)
        if number > self._last:
            self._last = number
            head, self._table = self.reader.read(block, self._table, ends=ends)
            if self._block_flags & _DEPENDS_ON_ITSELF:
                self._charge()
                self._forgive(number, frames.PROTOCOL_ERROR)
                return
            self._open(number, head, ends=ends)
            return
        if stream is None and number not in self._forgiven:
            raise Http2Error(frames.STREAM_CLOSED, "HEADERS must not be on a stream that is closed")
        fields, self._table = self.reader.read_trailers(block, self._table)
        if stream is None:
            self._charge()
            return
        if stream.complete or not ends or fields is None:
            self._charge()
            stream.reset(frames.STREAM_CLOSED if stream.complete else frames.PROTOCOL_ERROR)
            return
        stream.take_trailers(fields)

    def _open(self, number: int, head: Head, *, ends: bool) -> None:
        """A request whose answer takes more than what is known of it."""
        full = self.keeps(2 * self.context.share)  # of content there is once as much at most, for that is its window
        if self._leaving or full or len(self.streams) + len(self.heads) >= self.context.config.max_streams:
            self._forgiven.append(number)
            self.put(frames.rst_stream(number, frames.REFUSED_STREAM))
            self._charge()
            return
        self._make_stream(number, head, ends=ends)
        if head.malformed:
            self._charge()

    def _open_waiting(self) -> None:
        """Make streams of requests whose content did not come with them. Raises Http2Error."""
        for number in list(self.heads):
            self._open(number, self.heads.pop(number), ends=False)

    def _take_priority(self, _: int, number: int, payload: bytes, __: bytes) -> None:
        """RFC 9113 section 5.3.2: it is read and ignored. Raises Http2Error."""
        if len(payload) != 5:
            code = frames.FRAME_SIZE_ERROR
        elif frames.number(payload[:4]) & frames.MAX_STREAM == number:
            code = frames.PROTOCOL_ERROR
        else:
            return
        if number > self._last or not number & 1:  # section 6.4: an idle stream must not be reset
            raise Http2Error(code, "PRIORITY must have 5 octets, and no stream depends on itself")
        self._forgive(number, code)

    def _take_rst_stream(self, _: int, number: int, payload: bytes, __: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "RST_STREAM must have 4 octets")
        stream = self._find(number)
        if stream is not None:
            stream.on_reset()
            self._charge()  # twice: content before it brought something

    def _take_settings(self, flags: int, _: int, payload: bytes, __: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "SETTINGS with the ACK flag must be empty")
            return
        for name, value in dict(frames.read_settings(payload)).items():  # each change takes a look at all streams
            if name == frames.INITIAL_WINDOW_SIZE:
                change, self._initial = value - self._initial, value
                for stream in self.streams.values():
                    stream.window += change
                    if stream.window > frames.MAX_WINDOW:
                        raise Http2Error(frames.FLOW_CONTROL_ERROR, "a stream's window must be less than 2^31")
                self._wake_all()
        self.put(frames.SETTINGS_ACK)

    def _take_ping(self, flags: int, _: int, payload: bytes, __: bytes) -> None:
        if len(payload) != 8:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "PING must have 8 octets")
        if not flags & frames.ACK:
            self.put(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == DRAIN_PING and self._draining:
            self.close_gracefully()

    def _take_window_update(self, _: int, number: int, payload: bytes, __: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE must have 4 octets")
        self._charge_window_update()
        size = frames.number(payload) & frames.MAX_WINDOW
        if not number:
            before, self.window = self.window, self.window + size
            if not size:
                raise Http2Error(frames.PROTOCOL_ERROR, "WINDOW_UPDATE must be of at least 1")
            if self.window > frames.MAX_WINDOW:
                raise Http2Error(frames.FLOW_CONTROL_ERROR, "the connection's window must be less than 2^31")
            if before <= 0:
                self._wake_all()
            return
        self._check_stream(frames.WINDOW_UPDATE, number)
        stream = self._find(number)
        if stream is None:
            return
        stream.window += size
        if not size or stream.window > frames.MAX_WINDOW:
            self._charge()
            stream.reset(frames.FLOW_CONTROL_ERROR if size else frames.PROTOCOL_ERROR)
        else:
            self._wake_if_waiting(stream)

    def _take_goaway(self, _: int, __: int, payload: bytes, ___: bytes) -> None:
        """The client opens no more streams: that it need not say here."""
        if len(payload) < 8:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "GOAWAY must have at least 8 octets")

    def _take_push_promise(self, _: int, __: int, ___: bytes, ____: bytes) -> None:
        raise Http2Error(frames.PROTOCOL_ERROR, "clients must not send PUSH_PROMISE")


_TAKES: dict[int, Callable[[Control, int, int, bytes, bytes], None]] = {
    frames.DATA: Control._take_data, frames.HEADERS: Control._take_headers, frames.PRIORITY: Control._take_priority,
    frames.RST_STREAM: Control._take_rst_stream, frames.SETTINGS: Control._take_settings,
    frames.PUSH_PROMISE: Control._take_push_promise, frames.PING: Control._take_ping,
    frames.GOAWAY: Control._take_goaway, frames.WINDOW_UPDATE: Control._take_window_update,
    frames.CONTINUATION: Control._take_continuation,
}  # fmt: skip
