"""Frames to messages, and messages to the frames that go back (RFC 6455, RFC 7692): bytes in, bytes out.

No I/O and no clock: what is read goes into receive(), and step() says what is to be sent. Frames are taken as they come
and in short steps, between which others may have their turn: the library `websockets` (17.4) takes each in one go, ten
times as long as unmasking it takes, and a message that inflates to 16 MiB would stop all others for 0.1 s.
"""

from collections.abc import Sequence
from typing import Protocol

from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate

from echoserver.wire import frames
from echoserver.wire.deflate import Deflater, Inflater
from echoserver.wire.frames import BINARY, CLOSE, COMPRESSED, FINAL, TEXT, CloseError, SingleFrame

COPIED = 64 << 10
"""Payload up to so many bytes is cheaper copied into one write than written from where it is."""
WHOLE_TEXT = FINAL | TEXT
WHOLE = frozenset({WHOLE_TEXT, FINAL | BINARY})
"""First bytes of frames that may be whole messages, neither fragmented nor compressed."""
SHORT = tuple({first: frames.header(first, length) for first in WHOLE} for length in range(126))
"""The headers of short frames, by length and first byte."""

Out = list[bytes | bytearray]
"""What is to be sent, in order."""

_SLICED = 4096  # bytes that are sliced faster than viewed
_WINDOW = 4 << 10  # bytes of short frames that are answered in a step
_MOST_DEFLATED = 1 << 20  # bytes of a message that goes back compressed: a MiB takes 40 ms

_unmask = frames.apply_mask


class Pool(Protocol):
    """Has buffers of size bytes or more, and raises OSError where the system has no room for another."""

    def take(self, size: int) -> memoryview: ...
    def give(self, buffer: memoryview) -> None: ...


class Assembly:
    """What a client says after the handshake, and what it is answered.

    ready: there is something to do before more is received: step() is due, and else receive(). idle: there is not, and
    no message has begun. unread: what has been received and, from _position on, not been taken. echoed: bytes of
    messages that were answered.
    """

    __slots__ = (
        "_deflater", "_echoes", "_final", "_first", "_inflater", "_left", "_mask", "_message", "_most", "_pending",
        "_pool", "_position", "_simple", "_tail", "_whole", "_working", "echoed", "idle",
        "ready", "unread",
    )  # fmt: skip

    _pending: bytes
    """The beginning of a frame: less than its header, or than all of a control frame."""
    _echoes: bool
    """Messages are answered, and not only checked."""
    _simple: bool
    """They are, and none is in progress, nor being deflated: a frame may be a whole one."""
    _message: bytearray | None
    """What has come of a message in fragments, or a compressed one: unmasked, inflated, checked as text."""
    _first: int
    """The first byte of its first frame."""
    _tail: bytes
    """The beginning of a character, in which the text that has been checked so far ends."""
    _left: int
    """Bytes that are to come of the payload of its frame; 0: between two frames."""
    _mask: bytes
    """That of this frame, as it begins at the next byte of the payload."""
    _final: bool
    """This frame is its last."""
    _whole: SingleFrame | None
    """What has come of a frame that is a whole message, and not compressed."""
    _inflater: Inflater | None
    """None: permessage-deflate was not negotiated."""
    _deflater: Deflater | None
    _working: bool
    """A message is inflated or deflated."""

    def __init__(self, extensions: Sequence[Extension], most: int, pool: Pool) -> None:
        """extensions: those that were negotiated. most: bytes of a message."""
        self._most = most
        self._pool = pool
        self._inflater = self._deflater = None
        for extension in extensions:
            if isinstance(extension, PerMessageDeflate):
                self._inflater, self._deflater = Inflater(extension), Deflater(extension)
        self._echoes = self._simple = self.idle = True
        self._message = self._whole = None
        self._tail = self._pending = self._mask = self.unread = b""
        self._first = self._left = self._position = self.echoed = 0
        self._final = self._working = self.ready = False

    def receive(self, data: bytes) -> None:
        """Take what has been read; all that came before has been taken."""
        if self._pending:
            data, self._pending = self._pending + data, b""
        self.unread, self.ready, self.idle = data, True, False

    def step(self, out: Out) -> bytes | SingleFrame | None:
        """Take some short frames, or one of any kind as far as it has come, or inflate or deflate some of a message.

        What is to be sent is added to out. Returned is what is to be done before the next step: a control frame, to be
        answered, or a message whose answer has been made in place, to be sent. Raises CloseError.
        """
        event: bytes | SingleFrame | None = None
        if self._simple:
            data, position, most = self.unread, self._position, self._most
            end, until = len(data), position + _WINDOW
            while end - position > 5 and position < until:
                first, length, start = data[position], data[position + 1] - frames.MASKED, position + 6
                if length == 126:
                    length, start = data[position + 2] << 8 | data[position + 3], position + 8
                elif length == 127:
                    length, start = int.from_bytes(data[position + 2 : position + 10], "big"), position + 14
                stop = start + length
                # all of a message that is not compressed; without a mask the length is negative
                if first not in WHOLE or not start <= stop <= end or length > most:
                    break
                masked = data[start:stop] if length <= _SLICED else memoryview(data)[start:stop]
                payload = _unmask(masked, data[start - 4 : start])
                if first == WHOLE_TEXT and not payload.isascii():
                    frames.check_text(b"", payload, final=True)
                self.echoed += length
                out.append(SHORT[length][first] if length < 126 else frames.header(first, length))
                out.append(payload)
                position = stop
            self._position = position
            if position < end and position < until:
                event = self._take_frame(out)
        elif self._working:
            self._work(out)
        elif self._message is not None and self._left:
            self._take_payload(self._message, out)
        elif self._whole is not None:
            event = self._take_single(self._whole)
        else:
            event = self._take_frame(out)
        if self._position >= len(self.unread):
            self.unread, self._position = b"", 0
            self._pause()
        return event

    def _pause(self) -> None:
        """All that has been received is taken."""
        self.ready = self._working
        self.idle = not (self.ready or self._pending) and self._message is None and self._whole is None

    def _take_frame(self, out: Out) -> bytes | None:
        """Take a frame of any kind, as far as it has come; returns it if it is a control frame. Raises CloseError."""
        data, position, message = self.unread, self._position, self._message
        self._position = len(data)
        within = message is not None
        measured = frames.measure(data, position, deflate=self._inflater is not None, within=within)
        if measured is None:
            self._pending = data[position:]
            return None
        header_size, length = measured
        first, start = data[position], position + header_size
        control = first & frames.OPCODE >= CLOSE
        if not control:
            compressed = (self._first if within else first) & COMPRESSED
            # what can't be compressed gets longer: by 1 % with the least memLevel of zlib
            self._check_size(length - 125 - (self._most >> 6) if compressed else length)
        if start + (length if control else 0) > len(data):
            self._pending = data[position:]
            return None
        mask = data[start - 4 : start]
        if control:
            self._position = start + length
            return data[position : self._position]
        if self._simple and first in WHOLE:
            self._simple = False
            self._whole = SingleFrame(first, length, mask, self._buffer_for(length))
            self._whole.add(memoryview(data)[start:])  # all that has come, and not all of it
            return None
        if message is None:
            message = self._message = bytearray()
            self._first, self._simple = first, False
            if first & COMPRESSED and self._inflater is not None:
                self._inflater.begin()
        self._left, self._mask, self._final = length, mask, bool(first & FINAL)
        self._position = start
        self._take_payload(message, out)
        return None

    def _buffer_for(self, length: int) -> memoryview | None:
        """A place to make a large answer in. Raises CloseError."""
        if length <= COPIED:
            return None
        try:
            return self._pool.take(length + frames.LONGEST_HEADER)
        except OSError:
            reason = f"no memory for a message of {length} bytes now, try again later"
            raise CloseError(frames.TRY_AGAIN_LATER, reason) from None

    def _take_single(self, single: SingleFrame) -> SingleFrame | None:
        """Take what belongs to a frame that is a whole message; returns it if it is to be sent. Raises CloseError."""
        position = self._position
        self._position = end = min(position + single.left, len(self.unread))
        single.add(memoryview(self.unread)[position:end])
        if single.left:
            return None
        if not self._echoes:
            self._drop_single()
            return None
        self._whole = None
        self._simple = True
        self.echoed += single.size
        return single

    def _take_payload(self, message: bytearray, out: Out) -> None:
        """Take what has come of a frame's payload. Raises CloseError."""
        position = self._position
        size = min(self._left, len(self.unread) - position)
        self._position = position + size
        payload = _unmask(memoryview(self.unread)[position : self._position], self._mask)
        self._mask = frames.rotated(self._mask, size)
        self._left -= size
        last = self._final and not self._left
        if self._first & COMPRESSED and self._inflater is not None:
            self._inflater.add(payload, last=last)
            self._working = True
        else:
            self._add(message, payload, out, last=last)

    def _add(self, message: bytearray, payload: bytes, out: Out, *, last: bool) -> None:
        """Bytes of the message in progress; after the last ones it is answered. Raises CloseError."""
        if self._first & frames.OPCODE == TEXT:
            self._tail = frames.check_text(self._tail, payload, final=last)
        message += payload
        if not last:
            return
        self._message = None
        if not self._echoes:
            return
        self.echoed += len(message)
        # RFC 7692 section 6 leaves it to each message
        if self._first & COMPRESSED and self._deflater is not None and len(message) <= _MOST_DEFLATED:
            self._deflater.begin(message)
            self._working = True
        else:
            self._simple = True
            out += (frames.header((self._first | FINAL) & ~COMPRESSED, len(message)), message)

    def _work(self, out: Out) -> None:
        """Inflate some of the message in progress, or deflate some of an answer. Raises CloseError."""
        message, inflater, deflater = self._message, self._inflater, self._deflater
        if message is not None and inflater is not None:
            payload = inflater.step()
            self._working = inflater.pending
            self._check_size(len(payload))
            self._add(message, payload, out, last=inflater.complete)
        elif deflater is not None:
            answer = deflater.step()
            self._working = deflater.pending
            if answer is not None:
                self._simple = self._echoes
                out += (frames.header(self._first | FINAL, len(answer)), answer)

    def _check_size(self, more: int) -> None:
        size = more if self._message is None else len(self._message) + more
        if size > self._most:
            raise CloseError(frames.TOO_BIG, f"a message must have at most {self._most} bytes (--max-message)")

    # --- what is kept ---

    @property
    def kept(self) -> int:
        """Bytes of what waits for its rest, or to be inflated or deflated."""
        kept = len(self._pending) + len(self._message or b"")
        if self._whole is not None:
            kept += self._whole.size
        if self._inflater is not None:
            kept += self._inflater.kept
        if self._deflater is not None:
            kept += self._deflater.kept
        return kept

    def mute(self) -> None:
        """Answer no messages any more, nor the one that is being deflated: they are checked, and dropped."""
        self._echoes = self._simple = False
        if self._message is None:
            self._working = False
        self._deflater = None
        if not self.unread:
            self._pause()

    def drop(self) -> None:
        """Keep nothing: the connection is over."""
        self._drop_single()
        self._message = self._inflater = self._deflater = None
        self.unread = self._pending = b""
        self.ready, self.idle = False, True

    def _drop_single(self) -> None:
        if self._whole is not None and self._whole.buffer is not None:
            self._pool.give(self._whole.buffer)
        self._whole = None
