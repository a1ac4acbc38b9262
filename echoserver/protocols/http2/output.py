"""What a connection of HTTP/2 sends: frames with one write, content as its client lets it, streams in turn.

Here are the windows of flow control (RFC 9113 section 5.2) and the streams; what a client sends is in control.py.
"""

from collections import deque
from os import writev

from echoserver.observe.counters import ANSWERED, ERRORS
from echoserver.protocols.http1.site import Site
from echoserver.protocols.http2.site import Http2Site
from echoserver.protocols.http2.stream import Stream
from echoserver.transport.connection import Connection
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.wire import http2_frames as frames
from echoserver.wire.http2_reader import Head

BACKLOG_SIZE = 256 << 10
"""Octets that wait for the client to read them before content waits in its streams."""
PIECES = 1024
"""What the kernel takes with one write (IOV_MAX)."""

_SENT_AT_ONCE = 64 << 10  # octets of queued content that are written before it is asked whether the client takes them
_TURN = 256 << 10  # octets of queued content that are written before other connections have their turn
_FORGIVEN = 128  # streams that were reset here and whose client may not know it yet


class Output(Connection):
    """The common part: not usable by itself."""

    __slots__ = (
        "_block", "_client_fin", "_descriptor", "_forgiven", "_gathered", "_initial", "_interrupted", "_last",
        "_leaving", "_out", "_owed", "_ready", "_rest", "_rest_kept", "_served", "_shared", "_uncredited", "_walking",
        "grants", "heads", "site", "streams", "window",
    )  # fmt: skip

    streams: dict[int, Stream]
    heads: dict[int, Head]
    """Requests of a read whose content has not been met in it yet: what is left of them then become streams."""
    window: int
    """Octets of content that the client takes, of all streams together."""
    _initial: int
    """Octets of content that the client takes on a new stream."""
    _last: int
    """The last stream that the client has opened."""
    _uncredited: int
    """Octets of content that have come and that the client may not send again yet."""
    _owed: int
    """Those that it may send again, and has not been told so."""
    grants: int
    """WINDOW_UPDATE that the client may still send for nothing: for each stream and each DATA there are some."""
    _block: list[bytes] | None
    """A block that goes on in CONTINUATION, in pieces."""
    _rest: bytes
    """What has been read and not been worked off, the beginning of a frame at least; _rest_kept: as accounted for."""
    _interrupted: bool
    """There are whole frames in it."""
    _out: list[bytes | memoryview]
    """What goes with the next write."""
    _gathered: int
    """Octets of that but for those of requests that were answered at once."""
    _walking: bool
    """More is about to go with that write."""
    _descriptor: int
    """Where to write what is in a buffer that is not ours to keep, else -1."""
    _ready: deque[Stream]
    """Streams with something to send, in turn."""
    _served: int
    """The stream of those that was served last."""
    _forgiven: deque[int]
    """Streams that were reset here, and whose client may not know it yet."""
    _leaving: bool
    """GOAWAY has been sent with the last stream: later ones are refused."""
    _client_fin: bool
    """The client's FIN has been read, and is heeded when what came before it has been answered."""

    def __init__(self, context: Context, origin: Origin, shared: Http2Site) -> None:
        super().__init__(context, origin)
        self._shared = shared
        self.site: Site = shared.site
        self.streams, self.heads = {}, {}
        self.window = self._initial = frames.WINDOW
        self._last = self._owed = self._uncredited = self._gathered = self._served = self._rest_kept = 0
        self._block, self._rest, self.grants = None, b"", 0
        self._out = []
        self._descriptor = -1
        self._ready = deque()
        self._forgiven = deque(maxlen=_FORGIVEN)
        self._walking = self._leaving = self._client_fin = self._interrupted = False

    def expect_much(self, stream: Stream) -> None:
        """A stream has large content."""
        raise NotImplementedError

    def expect_no_more(self) -> None:
        """A stream with large content has ended."""
        raise NotImplementedError

    # --- what is sent ---

    def prefix(self) -> bytes:
        """The block that a 200 response begins with."""
        return self._shared.prefix

    def put(self, data: bytes) -> None:
        """Send a frame: with all others of this turn, where there are more."""
        self._out.append(data)
        self._gathered += len(data)
        if not self._walking:
            self._flush()

    def _flush(self) -> None:
        """Send all that is to be sent, with one write."""
        if not self._out:
            return
        full, self._gathered = self._gathered >= BACKLOG_SIZE, 0
        self._write_out()
        if full and self.write_queue is None:
            self._resume_all()

    def _resume_all(self) -> None:
        for stream in list(self.streams.values()):
            stream.taker.resumed()

    def _write_out(self) -> None:
        out, descriptor = self._out, self._descriptor
        if descriptor < 0 or self.write_queue is not None or self.origin.tls is not None or len(out) > PIECES:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self.send(data)
            return
        size = sum(map(len, out))
        self.sent += size
        try:
            sent = writev(descriptor, out)
        except OSError:  # no room, or an error: the transport will meet it too, and end the connection as always
            sent = 0
        rest = b"" if sent == size else b"".join(out)[sent:]
        out.clear()
        if rest:
            self.transport.write(rest)
            if self.write_queue is not None:
                self.account_unsent(len(rest) - self.unsent)

    def _wake_if_waiting(self, stream: Stream) -> None:
        if stream.may_send():
            self.wake(stream)
        stream.taker.resumed()

    def _wake_all(self) -> None:
        """All that wait, those behind the one that was served last before the others."""
        streams = list(self.streams.values())
        for behind in (True, False):
            for stream in streams:
                if (stream.id > self._served) is behind:
                    self._wake_if_waiting(stream)

    def wake(self, stream: Stream) -> None:
        """A stream has something to send."""
        if not stream.waiting:
            stream.waiting = True
            self._ready.append(stream)
            if not self._walking:  # an answer on demand goes on by itself
                self._settle()

    def _settle(self) -> None:
        """Send what waits, as far as the client takes it, each stream's in turn; and end what has to end."""
        ready, sent, turn = self._ready, 0, 0
        walking, self._walking = self._walking, True
        while ready and self.write_queue is None:
            stream = ready.popleft()
            stream.waiting = False
            if stream.may_send():
                sent += stream.send_some()
                self._served = stream.id
                if stream.may_send():
                    self.wake(stream)
                else:
                    stream.taker.resumed()
            if sent >= _SENT_AT_ONCE:
                self._flush()
                turn, sent = turn + sent, 0
                if turn >= _TURN:
                    self.yield_turn()
                    break
        self._walking = walking
        if 2 * self._owed >= self._shared.window:
            self._out.append(frames.window_update(0, self._owed))
            self._owed = 0
        self._flush()
        if self._leaving and not self.streams and not self.closing:
            self._end()
        elif self._client_fin and not self._interrupted and not self.closing:
            self._drop_hopeless()
            if not self.streams:
                self.close_when_sent()

    def on_all_sent(self) -> None:
        super().on_all_sent()
        if self.closing:
            return
        self._settle()
        self._resume_all()
        if self._interrupted:
            self.yield_turn()

    # --- windows, and what is kept ---

    @property
    def stream_window(self) -> int:
        """Octets that the client may send on a stream before any of them has gone back."""
        return self._shared.stream_window

    @property
    def takes_more(self) -> bool:
        """Whether content may be sent now: else it waits in its stream."""
        return self.unsent + self._gathered < BACKLOG_SIZE

    @property
    def is_full(self) -> bool:
        """Whether as much is kept for the streams as may be."""
        return self.keeps(self.context.share)

    def keeps(self, size: int) -> bool:
        """Whether so much is kept for the streams, or all that the worker may keep."""
        context = self.context
        return self.buffered - self._rest_kept >= size or context.used >= context.config.buffer_total

    def credit(self, stream: Stream, size: int) -> None:
        """So many octets of a stream's content have gone: its client may send as many again."""
        stream.uncredited -= size
        self._uncredited -= size
        self._owed += size
        if not stream.complete:
            stream.owed += size
            if 2 * stream.owed >= self._shared.stream_window:
                self.put(frames.window_update(stream.id, stream.owed))
                stream.owed = 0
        if not self._walking:
            self._settle()

    def keep(self, size: int) -> None:
        """So many bytes more wait, or fewer."""
        if size:
            self.account_buffered(size)

    # --- streams ---

    def _find(self, number: int) -> Stream | None:
        """An open stream; that of an ordinary request becomes one."""
        head = self.heads.pop(number, None)
        if head is None:
            return self.streams.get(number)
        return self._make_stream(number, head, ends=False)

    def _make_stream(self, number: int, head: Head, *, ends: bool) -> Stream:
        began = self.context.loop.time() if self.context.log is not None else 0.0
        stream = self.streams[number] = Stream(self, number, head, self._initial, began)
        stream.begin(ends=ends)
        return stream

    def on_closed(self, stream: Stream) -> None:
        """A stream has ended."""
        del self.streams[stream.id]
        if stream.is_large:
            self.expect_no_more()
        self._uncredited -= stream.uncredited
        self._owed += stream.uncredited
        stream.uncredited = 0
        context, status = self.context, stream.status
        if not stream.complete:
            self._forgiven.append(stream.id)
        if not stream.taker.is_a_connection:
            if status and not stream.cut_off:
                context.counts[ANSWERED[status // 100]] += 1
                if status in ERRORS and stream.refused:
                    context.counts[ERRORS[status]] += 1
            if context.log is not None:
                sent = max(0, stream.answered - stream.unsent)
                self._log(stream.head.text, status, stream.received, sent, stream.began)
        if not self._walking:
            self._settle()

    def _log(self, head: bytes, status: int, received: int, sent: int, began: float) -> None:
        if self.site.public:
            self.context.log_request(self, head, status, received, sent, began)

    def unready(self) -> None:
        for stream in list(self.streams.values()):
            stream.taker.unready()

    # --- how it ends ---

    def _leave(self, code: int, reason: str = "") -> None:
        """Send GOAWAY, drop what is under way, and end in stages."""
        self._drop_streams()
        self._out.append(frames.goaway(self._last, code, reason))
        self._flush()
        self._end()

    def _end(self) -> None:
        """Nothing more is answered."""
        self._rest, self._block, self._interrupted = b"", None, False
        self.account_buffered(-self.buffered)
        self._rest_kept = 0
        self.lingers = not self._client_fin
        if self.close_when_sent():
            self.pause()

    def _drop_streams(self) -> None:
        self._walking = True
        for number in list(self.heads):
            self._find(number)
        for stream in list(self.streams.values()):
            stream.on_reset()
        self._ready.clear()
        self._walking = False

    def _drop_hopeless(self) -> None:
        """Forget streams for which more would have to come, after the client's FIN."""
        walking, self._walking = self._walking, True
        for stream in list(self.streams.values()):
            if not stream.complete or stream.is_stuck():
                stream.on_reset()
        self._walking = walking

    def close_gracefully(self) -> None:
        """Take no more streams, and end when those under way have (RFC 9113 section 6.8)."""
        if not self._leaving:
            self._leaving = True
            self.put(frames.goaway(self._last, frames.NO_ERROR))
            if not self._walking:
                self._settle()
