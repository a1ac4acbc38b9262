"""gRPC's own services, in bytes: health checks, and the reflection that lets tools call without files.

A message of Protocol Buffers is read and written as far as these services need it. Their definitions:
https://github.com/grpc/grpc-proto, `grpc/health/v1/health.proto` and `grpc/reflection/v1/reflection.proto`.
"""

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, RESOURCE_EXHAUSTED = 0, 3, 4, 5, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 12, 13, 14
"""Codes of gRPC (doc/statuscodes.md)."""

PREFIX = 5
"""Bytes before each message: whether it is compressed, and its length."""

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
"""Answers to a health check."""

_LENGTHS = 2  # the wire type of strings, bytes and messages


class BadMessageError(Exception):
    """A message that is none of Protocol Buffers, or not as the service has it."""


def framed(message: bytes) -> bytes:
    """A message as it is sent: not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise BadMessageError
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def fields(message: bytes) -> list[tuple[int, bytes | int]]:
    """The numbers and values of a message's fields. Raises BadMessageError."""
    found: list[tuple[int, bytes | int]] = []
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        value: bytes | int
        if kind == 0:
            value, position = _varint(message, position)
        elif kind in _SIZES:
            value, position = message[position : position + _SIZES[kind]], position + _SIZES[kind]
        elif kind == _LENGTHS:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        else:
            raise BadMessageError
        if position > len(message) or not number:
            raise BadMessageError
        found.append((number, value))
    return found


_SIZES = {1: 8, 5: 4}  # bytes of the wire types of fixed size


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    data = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | _LENGTHS) + _number(len(data)) + data


# --- descriptors (google/protobuf/descriptor.proto) ------------------------------------------------------------------

_STRING, _BYTES, _ENUM = 9, 12, 14
_OPTIONAL = 1


def _member(name: str, number: int, kind: int, named: str = "") -> bytes:
    """A FieldDescriptorProto."""
    said = _field(1, name) + _field(3, number) + _field(4, _OPTIONAL) + _field(5, kind)
    return said + (_field(6, named) if named else b"") + _field(10, name)


def _message(name: str, *members: bytes, enum: bytes = b"") -> bytes:
    """A DescriptorProto."""
    return _field(1, name) + b"".join(_field(2, each) for each in members) + (_field(4, enum) if enum else b"")


def _method(name: str, takes: str, gives: str, *, client: bool = False, server: bool = False) -> bytes:
    """A MethodDescriptorProto; client, server: who streams."""
    streams = (_field(5, 1) if client else b"") + (_field(6, 1) if server else b"")
    return _field(1, name) + _field(2, takes) + _field(3, gives) + streams


def _service(name: str, *methods: bytes) -> bytes:
    return _field(1, name) + b"".join(_field(2, each) for each in methods)


def _file(name: str, package: str, messages: tuple[bytes, ...], service: bytes) -> bytes:
    """A FileDescriptorProto."""
    said = b"".join(_field(4, each) for each in messages)
    return _field(1, name) + _field(2, package) + said + _field(6, service) + _field(12, "proto3")


_STATUSES = _field(1, "ServingStatus") + b"".join(
    _field(2, _field(1, name) + _field(2, value))
    for value, name in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"))
)
_HEALTH, _REFLECTION, _ECHO = "grpc.health.v1", "grpc.reflection.v1", "echo"

FILES = {
    "echo.proto": _file(
        "echo.proto", _ECHO,
        (_message("Message", _member("text", 1, _STRING), _member("data", 2, _BYTES)),),
        _service(
            "Echo", _method("Unary", ".echo.Message", ".echo.Message"),
            _method("Stream", ".echo.Message", ".echo.Message", client=True, server=True),
        ),
    ),
    "grpc/health/v1/health.proto": _file(
        "grpc/health/v1/health.proto", _HEALTH,
        (
            _message("HealthCheckRequest", _member("service", 1, _STRING)),
            _message(
                "HealthCheckResponse",
                _member("status", 1, _ENUM, f".{_HEALTH}.HealthCheckResponse.ServingStatus"),
                enum=_STATUSES,
            ),
        ),
        _service(
            "Health", _method("Check", f".{_HEALTH}.HealthCheckRequest", f".{_HEALTH}.HealthCheckResponse"),
            _method("Watch", f".{_HEALTH}.HealthCheckRequest", f".{_HEALTH}.HealthCheckResponse", server=True),
        ),
    ),
}  # fmt: skip
"""The descriptors of what may be called, by the names of their files."""

_SYMBOLS = {
    "echo.Message": "echo.proto", "echo.Echo": "echo.proto", "echo.Echo.Unary": "echo.proto",
    "echo.Echo.Stream": "echo.proto",
    **{
        f"{_HEALTH}.{each}": "grpc/health/v1/health.proto"
        for each in (
            "Health", "Health.Check", "Health.Watch", "HealthCheckRequest", "HealthCheckResponse",
            "HealthCheckResponse.ServingStatus",
        )
    },
}  # fmt: skip
_SERVICES = ("echo.Echo", f"{_HEALTH}.Health", f"{_REFLECTION}.ServerReflection")

HEALTH_CHECK, HEALTH_WATCH = f"/{_HEALTH}.Health/Check".encode(), f"/{_HEALTH}.Health/Watch".encode()
REFLECTIONS = frozenset(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo".encode() for version in ("v1", "v1alpha")
)
OWN = frozenset({HEALTH_CHECK, HEALTH_WATCH}) | REFLECTIONS
"""The paths that are no echo."""

_BY_FILE, _BY_SYMBOL, _LIST = 3, 4, 7


def reflect(request: bytes) -> bytes:
    """The ServerReflectionResponse to a ServerReflectionRequest. Raises BadMessageError."""
    answer = _field(7, _field(1, UNIMPLEMENTED) + _field(2, "there are no extensions here"))
    for number, value in fields(request):
        if number in (_BY_FILE, _BY_SYMBOL):
            if not isinstance(value, bytes):
                raise BadMessageError
            name = value.decode("utf-8", "replace")
            file = FILES.get(name if number == _BY_FILE else _SYMBOLS.get(name, ""))
            if file is None:
                answer = _field(7, _field(1, NOT_FOUND) + _field(2, f"there is no {name} here"))
            else:
                answer = _field(4, _field(1, file))
        elif number == _LIST:
            answer = _field(6, b"".join(_field(1, _field(1, each)) for each in _SERVICES))
    return _field(1, b"") + _field(2, request) + answer


def check_health(request: bytes) -> None:
    """Whether that is a HealthCheckRequest: for any service, since any may be called. Raises BadMessageError."""
    for number, value in fields(request):
        if number == 1 and not isinstance(value, bytes):
            raise BadMessageError
