"""gRPC echo, with grpcio as the client: any service, its own health checks and reflection.

Modules: protocols.http2.grpc, wire.grpc_messages, answers.grpc_controls.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers import PATIENCE, Server, wait_for

grpc: Any = pytest.importorskip("grpc", reason="grpcio is not installed: pip install '.[test]'")

Call = Callable[..., Any]


def same(message: bytes) -> bytes:
    """Messages are bytes here: no service has to be defined."""
    return message


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server("--loop", request.param) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{server.http}") as opened:
        yield opened


def unary(channel: Any, method: str = "/any.Service/Method") -> Call:
    call: Call = channel.unary_unary(method, request_serializer=same, response_deserializer=same)
    return lambda *given, **more: call(*given, timeout=more.pop("timeout", PATIENCE), **more)


def stream(channel: Any, method: str = "/any.Service/Stream") -> Call:
    call: Call = channel.stream_stream(method, request_serializer=same, response_deserializer=same)
    return lambda given, **more: call(iter(given), timeout=PATIENCE, **more)


def asking(controls: str) -> tuple[tuple[str, str], ...]:
    return (("x-echo", controls),)


def failure(call: Call, *given: object, **more: object) -> tuple[str, str]:
    """The status and message of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*given, **more)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("size", [0, 1, 64, 16_379, 16_380, 100_000, 3_000_000])
def test_unary(channel: Any, size: int) -> None:
    message = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    assert unary(channel)(message) == message


def test_unary_again_and_again(channel: Any) -> None:
    call = unary(channel)
    assert [call(b"%d" % number) for number in range(200)] == [b"%d" % number for number in range(200)]


def test_streams_of_messages_come_back_one_by_one(channel: Any) -> None:
    messages = [b"a", b"", b"b" * 100_000, b"c" * 17, b"d" * 1_000_000]
    assert list(stream(channel)(messages)) == messages
    assert list(stream(channel)([])) == []


def test_each_message_comes_back_before_the_next_is_sent(channel: Any) -> None:
    came: list[bytes] = []

    def asked() -> Iterator[bytes]:
        for number in range(5):
            yield b"%d" % number
            wait_for(lambda number=number: len(came) > number, "the echo")  # type: ignore[misc]

    for each in stream(channel)(asked()):
        came.append(each)
    assert came == [b"0", b"1", b"2", b"3", b"4"]


def test_compressed_messages_are_left_as_they_are(channel: Any) -> None:
    message = b"the same again " * 1000
    assert unary(channel)(message, compression=grpc.Compression.Gzip) == message


def test_controls__grpc_status(channel: Any) -> None:
    call = unary(channel)
    said = failure(call, b"x", metadata=asking("grpc-status=14&grpc-message=try%20later%2C%20%C3%BC"))
    assert said == ("UNAVAILABLE", "try later, ü")
    with pytest.raises(grpc.RpcError) as caught:
        list(stream(channel)([b"x"], metadata=asking("grpc-status=7")))
    assert caught.value.code().name == "PERMISSION_DENIED"
    assert call(b"x", metadata=asking("grpc-status=14:0")) == b"x"


def test_controls__what_is_wrong_is_said(channel: Any) -> None:
    code, details = failure(unary(channel), b"x", metadata=asking("grpc-status=99"))
    assert code == "INVALID_ARGUMENT"
    assert details == "x-echo: grpc-status: '99' is not a status of gRPC: expected 0 to 16"
    code, details = failure(unary(channel), b"x", metadata=asking("status=503"))
    assert details == "x-echo: status: expected grpc-status, grpc-message, delay, pace or metadata"


def test_controls__delay_and_pace(channel: Any) -> None:
    begun = time.monotonic()
    assert unary(channel)(b"x", metadata=asking("delay=200ms")) == b"x"
    assert time.monotonic() - begun >= 0.2
    begun = time.monotonic()
    assert list(stream(channel)([b"a", b"b", b"c"], metadata=asking("pace=100ms"))) == [b"a", b"b", b"c"]
    assert time.monotonic() - begun >= 0.2


def test_controls__metadata_comes_back(channel: Any) -> None:
    call: Any = channel.unary_unary("/a.B/C", request_serializer=same, response_deserializer=same)
    metadata = (*asking("metadata"), ("my-id", "42"), ("my-bin", b"\0\1\2"))
    echoed, done = call.with_call(b"x", metadata=metadata, timeout=PATIENCE)
    found = dict(done.initial_metadata())
    assert echoed == b"x"
    assert (found["my-id"], found["my-bin"]) == ("42", b"\0\1\2")
    _, done = call.with_call(b"x", metadata=(("my-id", "42"),), timeout=PATIENCE)
    assert "my-id" not in dict(done.initial_metadata())


def test_controls__off_leaves_x_echo_alone() -> None:
    with Server("--controls", "off") as server, grpc.insecure_channel(f"127.0.0.1:{server.http}") as channel:
        assert unary(channel)(b"x", metadata=asking("grpc-status=14")) == b"x"


def test_a_deadline_ends_the_call_at_the_server_too(channel: Any) -> None:
    code, _ = failure(unary(channel), b"x", metadata=asking("delay=30s"), timeout=0.3)
    assert code == "DEADLINE_EXCEEDED"


def test_over_tls(certificates: Any) -> None:
    with Server("--https", "0", *certificates.options) as server:
        trust = grpc.ssl_channel_credentials(certificates.ca.read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{server.port('https')}", trust) as channel:
            assert unary(channel)(b"secret") == b"secret"


# --- its own services ---


def test_health__check_and_watch_follow_readiness() -> None:
    serving, not_serving = b"\x08\x01", b"\x08\x02"
    with Server("--drain-delay", "2s") as server, grpc.insecure_channel(f"127.0.0.1:{server.http}") as channel:
        check = unary(channel, "/grpc.health.v1.Health/Check")
        assert check(b"") == serving
        assert check(b"\x0a\x03any") == serving
        assert failure(check, b"\x0a\xff")[0] == "INVALID_ARGUMENT"
        watch: Any = channel.unary_stream(
            "/grpc.health.v1.Health/Watch", request_serializer=same, response_deserializer=same
        )
        watched = watch(b"", timeout=PATIENCE)
        assert next(watched) == serving
        server.process.terminate()
        assert next(watched) == not_serving
        assert check(b"") == not_serving
        watched.cancel()


def test_reflection__tools_work_without_files(channel: Any) -> None:
    reflection = pytest.importorskip("grpc_reflection.v1alpha.proto_reflection_descriptor_database")
    pools = pytest.importorskip("google.protobuf.descriptor_pool")
    database = reflection.ProtoReflectionDescriptorDatabase(channel)
    services = ["echo.Echo", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]
    assert sorted(database.get_services()) == services
    pool = pools.DescriptorPool(database)
    echo = pool.FindServiceByName("echo.Echo")
    assert [method.name for method in echo.methods] == ["Unary", "Stream"]
    assert [field.name for field in echo.methods[0].input_type.fields] == ["text", "data"]
    assert pool.FindServiceByName("grpc.health.v1.Health").methods[1].server_streaming
