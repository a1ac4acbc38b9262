"""permessage-deflate (RFC 7692) a step at a time: other connections have their turn between the steps of a message."""

import zlib

from websockets.extensions.permessage_deflate import PerMessageDeflate

from echoserver.wire.frames import PROTOCOL_ERROR, CloseError

_END = b"\x00\x00\xff\xff"
"""What a message is without the end of, and what is put back before it is inflated (RFC 7692 section 7.2)."""
_EMPTY = b"\x00"  # RFC 7692 section 7.2.3.6
_NOTHING = memoryview(b"")
_INFLATED = 64 << 10  # bytes out of a step
_DEFLATED = 8 << 10  # bytes into a step, which take some 0.3 ms


class Inflater:
    """Inflates one message after the other, in steps that are small whatever their input inflates to.

    pending: there is more to inflate. complete: all of the message has been inflated.
    """

    __slots__ = ("_bits", "_decoder", "_ended", "_input", "_takeover", "pending")

    def __init__(self, extension: PerMessageDeflate) -> None:
        self._bits = -extension.remote_max_window_bits
        self._takeover = not extension.remote_no_context_takeover
        self._decoder = extension.decoder if self._takeover else zlib.decompressobj(self._bits)
        self._input = b""
        self._ended = self.pending = False

    @property
    def complete(self) -> bool:
        return self._ended and not self.pending

    @property
    def kept(self) -> int:
        """Bytes that wait to be inflated."""
        return len(self._input)

    def begin(self) -> None:
        """A message begins."""
        self._ended = False
        if not self._takeover:
            self._decoder = zlib.decompressobj(self._bits)

    def add(self, data: bytes, *, last: bool) -> None:
        """Take a piece of the message; last: the last one."""
        self._input += data + _END if last else data
        self._ended = last
        self.pending = True

    def step(self) -> bytes:
        """The next bytes of the message. Raises CloseError."""
        try:
            inflated: bytes = self._decoder.decompress(self._input, _INFLATED)
        except zlib.error:
            raise CloseError(PROTOCOL_ERROR, "a compressed message must be valid DEFLATE data (RFC 7692)") from None
        self._input = self._decoder.unconsumed_tail
        if self._decoder.eof:
            # a block with BFINAL set (section 7.2.3.4) ends a stream, not the message: what follows is another stream,
            # or at the end of the message no more than what was added to it
            self._input = self._decoder.unused_data
            self._decoder = zlib.decompressobj(self._bits)
            if self._ended and (_EMPTY + _END).endswith(self._input):
                self._input = b""
        self.pending = bool(self._input) or len(inflated) == _INFLATED
        return inflated


class Deflater:
    """Deflates one message after the other. pending: one is under way."""

    __slots__ = ("_bits", "_encoder", "_message", "_pieces", "_settings", "_size", "_takeover", "pending")

    def __init__(self, extension: PerMessageDeflate) -> None:
        self._bits = -extension.local_max_window_bits
        self._settings = extension.compress_settings
        self._takeover = not extension.local_no_context_takeover
        self._encoder = extension.encoder if self._takeover else self._new_encoder()
        self._message = _NOTHING
        self._size = 0
        self._pieces: list[bytes] = []
        self.pending = False

    def _new_encoder(self) -> "zlib._Compress":
        return zlib.compressobj(wbits=self._bits, **self._settings)

    @property
    def kept(self) -> int:
        """Bytes of the message, all of it until the end, and of what has been made of it."""
        return len(self._message) and self._size + sum(map(len, self._pieces))

    def begin(self, message: bytearray) -> None:
        """Take a message."""
        if not self._takeover:
            self._encoder = self._new_encoder()
        self._message = memoryview(message)
        self._size = len(message)
        self._pieces = []
        self.pending = True

    def step(self) -> bytes | None:
        """All of the message, deflated, after the last step; None: there are more."""
        if not self._message and not self._pieces:
            self.pending = False
            return _EMPTY
        self._pieces.append(self._encoder.compress(self._message[:_DEFLATED]))
        self._message = self._message[_DEFLATED:]
        if self._message:
            return None
        self._message = _NOTHING  # the empty rest of the message would keep all of it
        self._pieces.append(self._encoder.flush(zlib.Z_SYNC_FLUSH))
        self.pending = False
        deflated, self._pieces = b"".join(self._pieces), []
        return deflated.removesuffix(_END)
