"""What a gRPC call asks for besides its echo, in its metadata: `x-echo: delay=50ms&grpc-status=14:20`.

The language is that of a query (controls.py).
"""

from urllib.parse import quote_from_bytes

from echoserver.answers.controls import Caps, Share, chosen, duration_range, parameters, weighted
from echoserver.config import values

_CODES = 17
_SHOWN = 60


class GrpcControls:
    """delay: seconds before the answer. pace: seconds from one message of the answer to the next. status: that of gRPC,
    None for an echo; message: grpc-message with it. metadata: that of the call comes back.
    """

    __slots__ = ("_delays", "_statuses", "message", "metadata", "pace")

    def __init__(self) -> None:
        self._statuses: list[Share] = []
        self._delays: list[Share] = []
        self.message = b""
        self.pace = 0.0
        self.metadata = False

    @property
    def status(self) -> int | None:
        """Chosen anew each time."""
        code = chosen(self._statuses)
        return None if code is None else int(code)

    @property
    def delay(self) -> float:
        """Likewise."""
        return chosen(self._delays) or 0.0

    def set(self, name: str, text: str, caps: Caps) -> None:
        """Heed a parameter. Raises ConfigError."""
        if name == "grpc-status":
            self._statuses = weighted(text, _status)
        elif name == "grpc-message":
            self.message = text.encode("utf-8", "replace")
        elif name == "delay":
            self._delays = weighted(text, duration_range)
            if any(share.high > caps.delay for share in self._delays):
                raise values.ConfigError(f"at most {caps.delay:g} s are allowed here (--max-delay)")
        elif name == "pace":
            self.pace = values.duration(text)
            if self.pace > caps.delay:
                raise values.ConfigError(f"at most {caps.delay:g} s are allowed here (--max-delay)")
        elif name == "metadata":
            self.metadata = True
        else:
            raise values.ConfigError("expected grpc-status, grpc-message, delay, pace or metadata")


def percent_encoded(text: bytes) -> bytes:
    """As grpc-message has it (gRPC over HTTP/2, "Percent-Encoded")."""
    inner = text.strip(b" ")
    if inner != text:  # RFC 9113 section 8.2.1: no blanks at the ends of a value
        before, behind = text.index(inner), len(text) - len(inner) - text.index(inner)
        return b"%20" * before + percent_encoded(inner) + b"%20" * behind
    return quote_from_bytes(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()


def read(text: bytes, caps: Caps) -> GrpcControls:
    """The controls in a value of x-echo. Raises ConfigError."""
    found = GrpcControls()
    for name, value in parameters(text):
        given, shown = value.decode("utf-8", "backslashreplace"), name.decode("utf-8", "backslashreplace")[:_SHOWN]
        try:
            found.set(shown, given[:1000], caps)
        except values.ConfigError as error:
            raise values.ConfigError(f"x-echo: {shown}: {error}") from None
    return found


def _status(text: str) -> tuple[float, float]:
    if not (text.isascii() and text.isdigit() and int(text) < _CODES):
        raise values.ConfigError(f"{text[:_SHOWN]!r} is not a status of gRPC: expected 0 to {_CODES - 1}")
    return float(text), float(text)
