"""Header sections of HTTP/2 (RFC 9113 section 8): what good ones mean, what bad ones get, and what is remembered.

Modules: wire.http2_reader.
"""

from collections.abc import Iterator

import hpack as judge
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from echoserver.answers.asked import Asked
from echoserver.answers.controls import Caps
from echoserver.wire import hpack, http2_frames, http2_reader
from echoserver.wire import request as messages
from echoserver.wire.hpack import HpackError, Table, TooMuchError
from echoserver.wire.http2_reader import Head, Http2Reader
from echoserver.wire.reader import RequestReader
from echoserver.wire.request import MAX_FIELDS, REMEMBERED, Request
from echoserver.wire.response import HttpError
from tests.unit.examples import examples

Pair = tuple[bytes, bytes]

ASKS = Asked(Caps(60.0, 1 << 30), cors=False)
MAX_HEADER = 20000
PREFIX_SIZE = 57

METHOD, SCHEME, PATH, AUTHORITY = (
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/a?b"),
    (b":authority", b"x"),
)
GET = (METHOD, SCHEME, PATH, AUTHORITY)
POST = ((b":method", b"POST"), SCHEME, PATH, AUTHORITY)
CONNECT = (b":method", b"CONNECT")
WEBSOCKET = (CONNECT, (b":protocol", b"websocket"), SCHEME, PATH, AUTHORITY)

MISPLACED = (
    "pseudo-fields must come before all others, and a field must not be repeated that says where the request goes or"
    " how long it is"
)
OTHER_HOST = "the Host field must say what :authority does"
NO_PATH = "a request must have :scheme and :path"
BAD_PATH = ":path must begin with a slash, and be printable ASCII without blanks"
BAD_CONNECT = "CONNECT must have :authority, and neither :scheme nor :path (RFC 9113 section 8.5)"
UNKNOWN = "a request must not have this pseudo-field"
UPPER_CASE = "the names of fields must be in lower case"
NO_TOKEN = "the name of a field must be a token"
BAD_VALUE = "a field value must not have control characters, nor blanks at its ends"
NO_NUMBER = "content-length must be a decimal number"
WRONG_LENGTH = "content-length must be the length of the content"


def reader(http1: RequestReader | None = None, max_header: int = MAX_HEADER) -> Http2Reader:
    return Http2Reader(http1 or RequestReader(), max_header, PREFIX_SIZE)


def block_of(*fields: Pair) -> bytes:
    """A block that leaves the table as it is."""
    return b"".join(hpack.literal(name, value) for name, value in fields)


def read(*fields: Pair, ends: bool = True, by: Http2Reader | None = None) -> Head:
    by = by or reader()
    return by.read(block_of(*fields), by.root, ends=ends)[0]


def asked(*fields: Pair, ends: bool = True, by: Http2Reader | None = None) -> Request:
    """What is asked for by a request that is no ordinary one."""
    head = read(*fields, ends=ends, by=by)
    assert (head.error, head.start, head.block, head.echo) == (None, b"", b"", b"")
    assert head.request is not None
    assert head.request.head == head.text
    assert head.pseudo == [field for field in fields if field[0][:1] == b":"]
    return head.request


def malformed(*fields: Pair, ends: bool = True) -> str:
    """Why a request is malformed (RFC 9113 section 8.1.1)."""
    head = read(*fields, ends=ends)
    assert head.malformed
    return refusal(head, 400)


def refused(*fields: Pair, ends: bool = True, by: Http2Reader | None = None, status: int = 400) -> str:
    """Why a request is refused that is not malformed."""
    head = read(*fields, ends=ends, by=by)
    assert not head.malformed
    assert head.text.startswith(fields[0][1] + b" ")
    return refusal(head, status)


def refusal(head: Head, status: int) -> str:
    assert head.error is not None
    assert head.error.status == status
    assert (head.start, head.echo, head.request) == (b"", b"", None)
    return head.error.reason


def response_of(head: Head) -> list[Pair]:
    """The fields that go behind the prefix, of which the first five bytes of HEADERS know the length."""
    size = PREFIX_SIZE + len(head.block)
    assert head.start == http2_frames.begin(http2_frames.HEADERS, http2_frames.END_HEADERS, 0, size)[:5]
    assert size <= http2_frames.MAX_SIZE
    return [(name, value) for name, value in judge.Decoder().decode(head.block, raw=True)]


def echo_of(head: Head) -> bytes:
    """The content of a response with the text."""
    assert head.error is None
    assert head.request is None
    assert (head.length, head.content_type, head.pseudo, head.malformed) == (-1, b"", [], False)
    size = len(head.text)
    assert head.echo == http2_frames.begin(http2_frames.DATA, http2_frames.END_STREAM, 0, size)[:5]
    assert response_of(head) == [
        (b"content-type", b"text/plain"), (b"x-content-type-options", b"nosniff"), (b"content-length", b"%d" % size)
    ]  # fmt: skip
    return head.text


# --- section 8.2: fields, and the text that HTTP/1.1 would have sent ---


def test_rfc_9113_section_8_2_the_text_has_the_fields_in_order_with_repeats() -> None:
    text = echo_of(read(*GET, (b"b", b"2"), (b"a", b"1"), (b"b", b"2"), (b"cookie", b"c=d"), (b"b", b"")))
    assert text == b"GET /a?b HTTP/2\r\nhost: x\r\nb: 2\r\na: 1\r\nb: 2\r\ncookie: c=d\r\nb: \r\n\r\n"


def test_rfc_9113_section_8_2_the_text_has_whatever_may_be_in_a_value() -> None:
    value = b'"a"\t :,;\' \xc3\xa4\x80\xff~!'
    assert echo_of(read(*GET, (b"a", value))) == b"GET /a?b HTTP/2\r\nhost: x\r\na: %b\r\n\r\n" % value


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"])
def test_rfc_9113_section_8_1_a_request_without_content_is_echoed(method: bytes) -> None:
    text = echo_of(read((b":method", method), SCHEME, PATH, AUTHORITY, (b"accept", b"*/*")))
    assert text == method + b" /a?b HTTP/2\r\nhost: x\r\naccept: */*\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, UPPER_CASE) for name in (b"A", b"Content-Length", b"x-Y")),
        *((name, NO_TOKEN) for name in (b"", b"a b", b"a:", b"a\0", b"\xe4", b"a\r", b"a\n", b" a", b"a(", b"\x7f")),
        *((name, UNKNOWN) for name in (b":", b":status", b":Method", b":method ", b":host", b"::path")),
    ],
)
def test_rfc_9113_section_8_2_1_names(name: bytes, why: str) -> None:
    assert malformed(*GET, (name, b"v")) == why
    assert malformed((name, b"v"), *GET) == why


@pytest.mark.parametrize(
    "value", [b" a", b"a ", b"\ta", b"a\t", b" ", b"a\0", b"\r", b"a\nb", b"a\r\nb: c", b"\x7f", b"\x1b"]
)
@pytest.mark.parametrize("name", [b"a", b"content-type", b"host", b"te", b"content-length", b"n" * 70])
def test_rfc_9113_section_8_2_1_values(name: bytes, value: bytes) -> None:
    assert malformed(*GET, (name, value)) == BAD_VALUE


@pytest.mark.parametrize("name", [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"])
def test_rfc_9113_section_8_2_2_fields_of_a_connection(name: bytes) -> None:
    why = f"{name.decode()} is about a connection of HTTP/1.1, and must not be in a request of HTTP/2"
    for value in (b"", b"close", b"chunked", b"trailers"):
        assert malformed(*GET, (name, value)) == why


def test_rfc_9113_section_8_2_2_te() -> None:
    for value in (b"trailers", b"Trailers"):
        assert echo_of(read(*GET, (b"te", value), (b"te", value))).endswith(
            b"x\r\nte: %b\r\nte: %b\r\n\r\n" % (value, value)
        )
    for value in (b"", b"gzip", b"trailers, gzip", b"trailers;q=1", b"trailers,trailers"):
        assert malformed(*GET, (b"te", value)).startswith("te is about a connection of HTTP/1.1")


# --- section 8.3: pseudo-fields ---


def test_rfc_9113_section_8_3_pseudo_fields_in_any_order() -> None:
    assert echo_of(read(AUTHORITY, PATH, SCHEME, METHOD)) == echo_of(read(*GET))


@pytest.mark.parametrize("field", GET, ids=lambda field: field[0].decode())
def test_rfc_9113_section_8_3_pseudo_fields_behind_others(field: Pair) -> None:
    others = [each for each in GET if each is not field]
    for other in (
        (b"a", b"b"),
        (b"content-length", b"0"),
        (b"content-type", b"a/b"),
        (b"host", b"x"),
        (b"te", b"trailers"),
    ):
        assert malformed(*others, other, field) == MISPLACED


@pytest.mark.parametrize("field", [*GET, (b":protocol", b"websocket")], ids=lambda field: field[0].decode())
def test_rfc_9113_section_8_3_pseudo_fields_must_not_be_repeated(field: Pair) -> None:
    others = [each for each in WEBSOCKET if each[0] != field[0]]
    assert malformed(field, *others, field) == f"{field[0].decode()} must not be repeated"


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_rfc_9113_section_8_3_1_pseudo_fields_that_must_be_there(left_out: int) -> None:
    others = GET[:left_out] + GET[left_out + 1 :]
    assert malformed(*others) == ("a request must have :method" if not left_out else NO_PATH)
    assert malformed() == "a request must have :method"


@pytest.mark.parametrize(
    "path", [b"", b"a", b"https://x/", b"?a", b"/a b", b"/\0", b"/\xc3\xa4", b"/\r\n", b"**", b"*/"]
)
def test_rfc_9113_section_8_3_1_paths_that_are_none(path: bytes) -> None:
    assert malformed(METHOD, SCHEME, (b":path", path), AUTHORITY) == BAD_PATH


@pytest.mark.parametrize("method", [b"", b"G T", b"GET\r\n", b"\xff", b"GET/", b"(", b"GET\n"])
def test_rfc_9113_section_8_3_1_methods_that_are_none(method: bytes) -> None:
    assert malformed((b":method", method), SCHEME, PATH, AUTHORITY) == ":method must be a token"


@pytest.mark.parametrize("scheme", [b"", b"1a", b"a b", b"https:", b"https\n", b"\xff"])
def test_rfc_9113_section_8_3_1_schemes_that_are_none(scheme: bytes) -> None:
    assert malformed(METHOD, (b":scheme", scheme), PATH, AUTHORITY) == ":scheme must be the name of a scheme"


@pytest.mark.parametrize("scheme", [b"http", b"https", b"HTTPS", b"coap+tcp"])
def test_rfc_9113_section_8_3_1_any_scheme(scheme: bytes) -> None:
    assert echo_of(read(METHOD, (b":scheme", scheme), PATH, AUTHORITY)) == echo_of(read(*GET))


def test_rfc_9113_section_8_3_1_an_asterisk() -> None:
    asterisk = (b":path", b"*")
    found = asked((b":method", b"OPTIONS"), SCHEME, asterisk, AUTHORITY)
    assert found.answer.endswith(b"\r\n\r\nOPTIONS * HTTP/2\r\nhost: x\r\n\r\n")
    why = "the request target * must be used with OPTIONS only (RFC 9112 section 3.2.4)"
    assert refused(METHOD, SCHEME, asterisk, AUTHORITY) == why
    assert refused(*WEBSOCKET[:3], asterisk, AUTHORITY) == why


@pytest.mark.parametrize("value", [b"x\r\ny", b" x", b"x\t", b"\0", b"\x7f"])
def test_rfc_9113_section_8_3_1_what_an_authority_must_not_have(value: bytes) -> None:
    assert malformed(*GET[:3], (b":authority", value)) == "a pseudo-field must not have control characters"
    assert malformed(*WEBSOCKET[:1], (b":protocol", value)) == "a pseudo-field must not have control characters"


@pytest.mark.parametrize("value", [b"user@x", b"x y", b"x:a", b"\xff", b"x/", b"[::1", b"x?"])
def test_rfc_9113_section_8_3_1_authorities_that_are_no_hosts(value: bytes) -> None:
    assert refused(*GET[:3], (b":authority", value)) == ":authority must be HOST or HOST:PORT"
    assert refused(*GET[:3], (b"host", value)) == ":authority must be HOST or HOST:PORT"


def test_rfc_9113_section_8_3_1_host_in_the_place_of_an_authority() -> None:
    head = read(*GET[:3], (b"a", b"b"), (b"host", b"y:1"))
    assert echo_of(head) == b"GET /a?b HTTP/2\r\na: b\r\nhost: y:1\r\n\r\n"
    assert refused(*GET[:3]) == "a request must have :authority or a Host field"


def test_rfc_9113_section_8_3_1_host_beside_an_authority() -> None:
    """One that says the same: it is once in the text, as HTTP/1.1 must have it."""
    for host in (b"shop.Example:1", b"SHOP.example:1"):
        text = echo_of(read(*GET[:3], (b":authority", b"Shop.example:1"), (b"a", b"b"), (b"host", host), (b"c", b"d")))
        assert text == b"GET /a?b HTTP/2\r\nhost: Shop.example:1\r\na: b\r\nc: d\r\n\r\n"
    for host in (b"y", b"", b"x:443", b"x."):
        assert refused(*GET, (b"host", host)) == OTHER_HOST
    assert refused(*GET[:3], (b":authority", b""), (b"host", b"x")) == OTHER_HOST


def test_rfc_9113_section_8_3_1_host_must_not_be_repeated() -> None:
    for fields in (GET, GET[:3]):
        assert malformed(*fields, (b"host", b"x"), (b"host", b"x")) == MISPLACED


# --- section 8.5, and RFC 8441: CONNECT ---


def test_rfc_9113_section_8_5_connect() -> None:
    why = "CONNECT is not supported: an echo server opens no tunnels"
    for ends in (False, True):
        assert refused(CONNECT, (b":authority", b"x:1"), ends=ends, status=501) == why
    assert read(CONNECT, (b":authority", b"x:1")).text == b"CONNECT x:1 HTTP/2\r\nhost: x:1\r\n\r\n"


@pytest.mark.parametrize(
    "others", [(), ((b":authority", b""),), ((b"host", b"x:1"),), (AUTHORITY, PATH), (AUTHORITY, SCHEME), GET[1:]]
)
def test_rfc_9113_section_8_5_what_connect_must_have(others: tuple[Pair, ...]) -> None:
    for ends in (False, True):
        assert malformed(CONNECT, *others, ends=ends) == BAD_CONNECT


def test_rfc_8441_section_4_websocket() -> None:
    found = asked(*WEBSOCKET, ends=False)
    assert found.upgrade
    assert found.head == b"CONNECT /a?b HTTP/2\r\nhost: x\r\n\r\n"


def test_rfc_8441_section_4_what_connect_with_a_protocol_must_have() -> None:
    assert malformed(*WEBSOCKET[:2], AUTHORITY) == NO_PATH
    assert malformed(*WEBSOCKET[:2], SCHEME, AUTHORITY) == NO_PATH
    assert malformed(*WEBSOCKET[:2], PATH, AUTHORITY) == NO_PATH
    assert refused(*WEBSOCKET[:4]) == "a request must have :authority or a Host field"


def test_rfc_8441_section_4_other_protocols_and_methods() -> None:
    why = "the only :protocol supported is websocket, with CONNECT (RFC 8441)"
    for protocol in (b"", b"connect-udp", b"WebSocket"):
        assert refused(CONNECT, (b":protocol", protocol), SCHEME, PATH, AUTHORITY, ends=False, status=501) == why
    for method in (b"GET", b"POST", b"FOO"):
        assert refused((b":method", method), *WEBSOCKET[1:], ends=False, status=501) == why


# --- content ---


def test_rfc_9113_section_8_1_1_content_length() -> None:
    for value, length in ((b"5", 5), (b"0", 0), (b"00005", 5), (b"9" * 19, 10**19 - 1)):
        head = read(*POST, (b"content-length", value), (b"content-type", b"a/b"), ends=False)
        assert (head.length, head.echo, head.content_type, head.request, head.error) == (
            length,
            b"",
            b"a/b",
            None,
            None,
        )
        assert head.text.endswith(b"\r\nhost: x\r\ncontent-length: %b\r\ncontent-type: a/b\r\n\r\n" % value)
        assert response_of(head) == [
            (b"content-type", b"a/b"), (b"x-content-type-options", b"nosniff"), (b"content-length", b"%d" % length)
        ]  # fmt: skip


def test_rfc_9113_section_8_1_1_content_of_any_length() -> None:
    head = read(*POST, ends=False)
    assert (head.length, head.echo, head.content_type) == (-1, b"", b"application/octet-stream")
    assert response_of(head) == [
        (b"content-type", b"application/octet-stream"), (b"x-content-type-options", b"nosniff")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+1", b"1.0", b"0x1", b"a", b"1,1", b"1, 1", b"\xb2", b"9" * 20, b"1" * 5000]
)
def test_rfc_9113_section_8_1_1_content_lengths_that_are_none(value: bytes) -> None:
    for ends in (False, True):
        assert malformed(*POST, (b"content-length", value), ends=ends) == NO_NUMBER


def test_rfc_9113_section_8_1_1_content_length_must_not_be_repeated() -> None:
    for other in (b"5", b"6", b"0"):
        assert (
            malformed(*POST, (b"content-length", other), (b"a", b""), (b"content-length", b"5"), ends=False)
            == MISPLACED
        )


def test_rfc_9113_section_8_1_1_content_length_where_there_is_no_content() -> None:
    head = read(*POST, (b"content-length", b"1"))
    assert refusal(head, 400) == WRONG_LENGTH
    assert head.malformed
    assert head.text == b"POST /a?b HTTP/2\r\nhost: x\r\ncontent-length: 1\r\n\r\n"
    head = read(*POST, (b"content-length", b"0"))
    assert (head.length, head.echo, head.error, head.malformed) == (0, b"", None, False)
    assert dict(response_of(head))[b"content-length"] == b"0"


def test_max_body__content_that_is_declared_to_be_longer_is_refused() -> None:
    by = reader(RequestReader(10))
    assert read(*POST, (b"content-length", b"10"), ends=False, by=by).start
    why = "the content has 11 bytes: expected at most 10 (--max-body)"
    assert refused(*POST, (b"content-length", b"11"), ends=False, by=by, status=413) == why


def test_what_content_is_goes_back_with_it() -> None:
    fields = ((b"content-encoding", b"gzip"), (b"content-language", b"de"), (b"content-encoding", b"br"))
    head = read(*POST, *fields, (b"content-type", b"text/html; charset=x"), ends=False)
    assert response_of(head) == [
        (b"content-type", b"text/html; charset=x"), (b"content-encoding", b"gzip, br"), (b"content-language", b"de"),
        (b"x-content-type-options", b"nosniff"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [b"content-type", b"content-encoding", b"content-language"])
@pytest.mark.parametrize("length", [900, 1100, 16290, 16310, 16330, 16384, 19000])
def test_what_content_is_may_be_longer_than_a_frame(name: bytes, length: int) -> None:
    """The first five bytes of HEADERS are those of one frame, and must not be of a longer one."""
    head = read(*POST, (name, b"v" * length), ends=False)
    assert head.error is None
    if head.start:
        assert b"v" * length in dict(response_of(head)).values()
    else:
        assert head.request is not None
        assert b"v" * length in head.request.content_type


def test_fields_of_every_echo_are_in_the_block() -> None:
    by = reader(RequestReader(extra=b"Access-Control-Allow-Origin: *\r\nVary: a\r\n"))
    for ends in (False, True):
        fields = response_of(read(*POST, ends=ends, by=by))
        assert fields[2:4] == [(b"access-control-allow-origin", b"*"), (b"vary", b"a")]


# --- what is no ordinary request ---


def test_an_expectation() -> None:
    expects = (b"expect", b"100-continue")
    assert asked(*POST, expects, ends=False).expects
    assert asked(*POST, expects, (b"content-length", b"5"), ends=False).expects
    assert not asked(*POST, expects).expects
    why = "the only expectation supported is 100-continue"
    assert refused(*POST, (b"expect", b"200-ok"), ends=False, status=417) == why


@pytest.mark.parametrize("method", [b"HEAD", b"OPTIONS", b"TRACE", b"FOO", b"get"])
def test_another_method(method: bytes) -> None:
    found = asked((b":method", method), *GET[1:])
    assert found.head == method + b" /a?b HTTP/2\r\nhost: x\r\n\r\n"
    assert found.no_body == (method == b"HEAD")
    assert not found.upgrade


def test_trace_with_content() -> None:
    why = "a TRACE request must not have content (RFC 9110 section 9.3.8)"
    for length in ((), ((b"content-length", b"1"),)):
        assert refused((b":method", b"TRACE"), *GET[1:], *length, ends=False) == why


@pytest.mark.parametrize("path", sorted(messages.PAGES))
def test_a_page(path: bytes) -> None:
    for method in (b"GET", b"HEAD", b"OPTIONS"):
        for query in (b"", b"?a"):
            assert asked((b":method", method), SCHEME, (b":path", path + query), AUTHORITY).page == path
    found = asked(POST[0], SCHEME, (b":path", path), AUTHORITY, ends=False)
    assert (found.page, found.probe) == (None, path == messages.READY)


def test_an_echo_at_readyz_once_the_server_is_to_stop() -> None:
    http1 = RequestReader()
    by = reader(http1)
    fields = (POST[0], SCHEME, (b":path", b"/readyz"), AUTHORITY)
    assert asked(*fields, by=by).probe
    http1.unready = True
    assert refused(*fields, by=by, status=503) == "the server is shutting down"


def test_controls() -> None:
    by = reader(RequestReader(asks=ASKS))
    assert asked(METHOD, SCHEME, (b":path", b"/?status=404"), AUTHORITY, by=by).controls is not None
    assert asked(*GET, (b"accept", b"application/json"), by=by).controls is not None
    assert echo_of(read(*GET, by=by))


def test_a_listener_that_has_pages_only() -> None:
    by = reader(RequestReader(echoes=False))
    assert asked(METHOD, SCHEME, (b":path", b"/healthz"), AUTHORITY, by=by).page == b"/healthz"
    assert refused(*GET, by=by, status=404) == "this listener serves only /healthz, /metrics, /readyz"
    assert refused(POST[0], SCHEME, (b":path", b"/healthz"), AUTHORITY, by=by, status=405)


# --- calls of gRPC ---

CALL = (*POST, (b"te", b"trailers"), (b"content-type", b"application/grpc+proto"))


def test_a_call() -> None:
    head = read(*CALL, (b"grpc-encoding", b"gzip"), (b"grpc-timeout", b"1S"), ends=False)
    assert (head.is_call, head.path, head.trailers) == (True, b"/a?b", b"\0\x0bgrpc-status\x010")
    assert response_of(head) == [
        (b"content-type", b"application/grpc+proto"), (b"x-content-type-options", b"nosniff"),
        (b"grpc-encoding", b"gzip"),
    ]  # fmt: skip
    assert head.grpc == [(b"grpc-encoding", b"gzip"), (b"grpc-timeout", b"1S")]
    assert not read(*GET, *CALL[4:], ends=False).is_call
    for content_type in (b"application/grpcx", b"application/grpc-web", b"text/application/grpc"):
        assert not read(*POST, (b"content-type", content_type), ends=False).is_call


def test_a_call_whose_response_would_begin_with_more_than_a_frame_is_refused() -> None:
    why = "content-type and grpc-encoding must not be longer than a frame"
    for field in ((b"content-type", b"application/grpc;" + b"v" * 16310), (b"grpc-encoding", b"v" * 16310)):
        fields = (*POST, field) if field[0] == b"content-type" else (*CALL, field)
        assert refused(*fields, ends=False, status=431) == why


def test_a_call_of_readyz_is_as_any_other_request_to_it() -> None:
    """It is not remembered: the server may be about to stop."""
    http1 = RequestReader()
    by = reader(http1)
    fields = (POST[0], SCHEME, (b":path", b"/readyz"), AUTHORITY, CALL[5])
    assert asked(*fields, ends=False, by=by).probe
    http1.unready = True
    assert refused(*fields, ends=False, by=by, status=503) == "the server is shutting down"


# --- limits ---


@pytest.mark.parametrize("max_header", [200, 20000])
def test_max_header__a_header_section_that_is_longer_is_refused(max_header: int) -> None:
    by = reader(max_header=max_header)
    size = max_header - len(read(*GET, (b"a", b"")).text)
    assert read(*GET, (b"a", b"b" * size), by=by).error is None
    why = f"the header section has more than {max_header} bytes, or 100 field lines"
    assert refused(*GET, (b"a", b"b" * (size + 1)), by=by, status=431) == why


def test_a_header_section_of_too_many_fields_is_refused() -> None:
    assert echo_of(read(*GET, *[(b"a", b"")] * (MAX_FIELDS - 4))).count(b"\r\n") == MAX_FIELDS - 1
    why = "the header section has more than 20000 bytes, or 100 field lines"
    assert refused(*GET, *[(b"a", b"")] * (MAX_FIELDS - 3), status=431) == why


def test_a_text_that_is_longer_than_a_frame_is_echoed_otherwise() -> None:
    size = http2_frames.MAX_SIZE - len(read(*GET, (b"a", b"")).text)
    assert len(echo_of(read(*GET, (b"a", b"b" * size)))) == http2_frames.MAX_SIZE
    found = asked(*GET, (b"a", b"b" * (size + 1)))
    assert found.echoed == http2_frames.MAX_SIZE + 1


def test_what_is_far_too_much_ends_the_connection() -> None:
    by = reader()
    entry = b"\x40\x01a" + hpack.integer(3900, 7) + b"b" * 3900
    _, table = by.read(block_of(*GET) + entry, by.root, ends=True)
    head, _ = by.read(block_of(*GET) + b"\xbe" * 10, table, ends=True)
    assert refusal(head, 431)
    assert not head.malformed
    for bomb in (b"\xbe" * 10000, block_of(*GET, *[(b"a", b"")] * 400)):
        for read_block in (
            lambda block: by.read(block, table, ends=True),
            lambda block: by.read_trailers(block, table),
        ):
            with pytest.raises(TooMuchError):
                read_block(bomb)


def test_a_block_that_is_none_ends_the_connection() -> None:
    by = reader()
    for block in (b"\x80", block_of(*GET)[:-1], b"\xff"):
        with pytest.raises(HpackError):
            by.read(block, by.root, ends=True)
        with pytest.raises(HpackError):
            by.read_trailers(block, by.root)


def test_a_malformed_request_changes_the_table_all_the_same() -> None:
    """RFC 9113 section 4.3: all blocks must be decoded."""
    by = reader()
    head, table = by.read(b"\x40\x01A\x01b", by.root, ends=True)
    assert refusal(head, 400) == UPPER_CASE
    assert [field[:2] for field in table.entries] == [(b"A", b"b")]


# --- trailers ---


def trailers(*fields: Pair, by: Http2Reader | None = None) -> list[Pair] | None:
    by = by or reader()
    block, _ = by.read_trailers(block_of(*fields), by.root)
    return None if block is None else [(name, value) for name, value in judge.Decoder().decode(block, raw=True)]


def test_rfc_9113_section_8_1_trailers() -> None:
    fields = ((b"b", b"1"), (b"a", b""), (b"b", b"1"), (b"te", b"trailers"))
    assert trailers(*fields) == list(fields)
    assert trailers() == []


@pytest.mark.parametrize(
    "field", [*GET, (b":status", b"200"), (b"A", b""), (b"upgrade", b"x"), (b"a", b" "), (b"te", b"x")]
)
def test_rfc_9113_section_8_1_trailers_that_are_malformed(field: Pair) -> None:
    assert trailers((b"a", b"b"), field) is None


def test_rfc_9110_section_6_5_1_what_must_not_be_behind_the_content_does_not_go_back() -> None:
    names = (b"content-length", b"host", b"content-type", b"content-encoding", b"expect")
    assert trailers((b"a", b"b"), *((name, b"1") for name in names), (b"c", b"d")) == [(b"a", b"b"), (b"c", b"d")]


def test_trailers_are_bounded_as_header_sections_are() -> None:
    assert trailers(*[(b"a", b"")] * MAX_FIELDS) == [(b"a", b"")] * MAX_FIELDS
    assert trailers(*[(b"a", b"")] * (MAX_FIELDS + 1)) is None
    by = reader(max_header=200)
    assert trailers((b"a", b"b" * 195), by=by) == [(b"a", b"b" * 195)]
    assert trailers((b"a", b"b" * 196), by=by) is None


# --- what is remembered ---


def meaning(head: Head) -> tuple[object, ...]:
    """All there is to know of a head."""
    found = {name: getattr(head, name) for name in Head.__slots__}
    request, error = found.pop("request"), found.pop("error")
    assert bool(head.start) + (request is not None) + (error is not None) == 1
    return (
        found,
        request and {name: getattr(request, name) for name in Request.__slots__ if name != "controls"},
        error and (error.status, error.reason, error.extra),
    )


def memories(by: Http2Reader) -> list[tuple[bytes, Head]]:
    return [
        (block, head)
        for table in by._tables
        for kept in (table.heads, table.whole)
        for block, (head, _) in kept.items()
    ]


def test_a_block_is_remembered_after_the_table_that_it_is_read_with() -> None:
    by, block = reader(), block_of(*GET)
    head, table = by.read(block, by.root, ends=True)
    assert table is by.root
    assert table.whole == {block: (head, table)}
    assert table.heads == {}
    head, _ = by.read(block, by.root, ends=False)
    assert table.heads[block][0] is head
    assert head.echo == b""
    assert table.whole[block][0].echo


def test_the_first_block_of_a_connection_is_remembered_with_the_table_after_it() -> None:
    by, encoder = reader(), judge.Encoder()
    first = encoder.encode(GET)
    _, table = by.read(first, by.root, ends=True)
    assert table is not by.root
    assert by.root.whole[first][1] is table
    second = encoder.encode(GET)
    assert by.read(second, table, ends=True)[1] is table
    assert second in table.whole
    third = encoder.encode([*GET, (b"a", b"b")])
    assert by.read(third, table, ends=True)[1] is not table
    assert third not in table.whole, "it says something new"


@pytest.mark.parametrize(
    "fields",
    [
        (METHOD, SCHEME, (b":path", b"/healthz"), AUTHORITY),
        (METHOD, SCHEME, (b":path", b"/metrics?a"), AUTHORITY),
        (METHOD, SCHEME, (b":path", b"/?status=404"), AUTHORITY),
        (POST[0], SCHEME, (b":path", b"/readyz"), AUTHORITY),
        ((b":method", b"HEAD"), *GET[1:]),
        (*POST, (b"expect", b"100-continue")),
        (*POST, (b"a", b"b" * 1024)),
        (*POST, (b"content-length", b"11")),
        (*POST, (b"a", b" ")),
        (*GET, (b"host", b"y")),
        GET[:3],
        WEBSOCKET,
        (CONNECT, AUTHORITY),
    ],
)  # fmt: skip
def test_what_is_no_ordinary_request_is_never_remembered(fields: tuple[Pair, ...]) -> None:
    by = reader(RequestReader(10, asks=ASKS))
    for ends in (False, True, False, True):
        read(*fields, ends=ends, by=by)
    assert memories(by) == []
    assert hpack.NOTHING == {}


def test_what_asks_for_json_is_remembered_with_content_only() -> None:
    by, fields = reader(RequestReader(asks=ASKS)), (*POST, (b"accept", b"application/json"))
    assert asked(*fields, by=by).controls is not None
    assert memories(by) == []
    assert read(*fields, ends=False, by=by).start
    assert [block for block, _ in memories(by)] == [block_of(*fields)]


def different() -> Iterator[tuple[Pair, ...]]:
    """Sections that have nothing in common."""
    for number in range(3000):
        digits = b"%d" % number
        yield (
            *POST[:2], (b":path", b"/" + digits), (b":authority", b"x" + digits), (b"x-" + digits, digits),
            (b"content-type", b"a/" + digits), (b"accept", b"b/" + digits), (b"content-length", b"0"),
        )  # fmt: skip


def test_what_is_remembered_is_bounded() -> None:
    by = reader()
    tables: list[Table] = []
    for number, fields in enumerate(different()):
        block = judge.Encoder().encode(fields, huffman=bool(number % 2))
        for ends in (False, True):
            head, table = by.read(block, by.root, ends=ends)
            assert head.start
            again = block_of(*fields)
            assert by.read(again, table, ends=ends)[1] is table
            tables.append(table)
        assert len(memories(by)) == by._remembered <= 256
        assert len(by._tables) <= 256
    assert by._remembered
    kept = [
        table for table in [by.root, *tables] if table.heads is not hpack.NOTHING or table.whole is not hpack.NOTHING
    ]
    assert {id(table) for table in kept} == {id(table) for table in by._tables}
    assert hpack.NOTHING == {}
    assert len(by._fields) <= REMEMBERED
    assert len(by._types) <= REMEMBERED
    assert len(http2_reader._kinds) <= REMEMBERED
    assert len(by._decoder._known) <= 1024


def test_what_is_long_is_not_remembered() -> None:
    by = reader()
    long = b"v" * 5000
    for fields in ((b"n" * 100, b""), (b"content-type", long), (b"accept", long), (b"content-language", long)):
        for ends in (False, True):
            assert read(*POST, fields, ends=ends, by=by).error is None
    assert b"n" * 100 not in http2_reader._kinds
    kept = (*by._fields, *by._types, *(block for block, _ in memories(by)))
    assert max(map(len, kept)) <= 1024


def test_what_was_forgotten_is_read_again() -> None:
    by, block = reader(), block_of(*GET)
    first = meaning(by.read(block, by.root, ends=True)[0])
    for number in range(300):
        read(*GET, (b"a", b"%d" % number), by=by)
    assert block not in by.root.whole
    assert meaning(by.read(block, by.root, ends=True)[0]) == first
    assert block in by.root.whole


names = st.sampled_from((
    b":method", b":scheme", b":path", b":authority", b":protocol", b":status", b"host", b"content-length", b"te",
    b"content-type", b"content-encoding", b"accept", b"expect", b"a", b"A", b"connection", b"", b"n" * 70,
    b"grpc-encoding", b"x-echo",
))  # fmt: skip
values = st.sampled_from((
    b"GET", b"POST", b"HEAD", b"CONNECT", b"https", b"/", b"/readyz", b"/?status=404", b"*", b"x", b"X", b"", b"5",
    b"0", b"11", b"trailers", b"100-continue", b"websocket", b"application/json", b" ", b"\0", b"\xff", b"v" * 1100,
))  # fmt: skip


@st.composite
def sections(draw: st.DrawFn) -> list[Pair]:
    """Header sections, most of them of a request that might be."""
    fields = list(draw(st.sampled_from((GET, POST, CALL, WEBSOCKET, GET[:3], (CONNECT, AUTHORITY)))))
    fields += draw(st.lists(st.tuples(names, values), max_size=4))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(fields) - 1))
        fields[at] = fields[at][0], draw(values)
    return draw(st.permutations(fields)) if draw(st.integers(0, 5)) == 0 else fields


LONG_LIVED = reader(RequestReader(10, asks=ASKS))


@examples(1000)
@given(st.lists(st.tuples(sections(), st.booleans()), min_size=1, max_size=4))
@example([([*GET], True), ([*GET], False)])
@example([([CONNECT, (b":authority", b"")], True)])
def test_what_is_remembered_is_what_would_be_read(requests: list[tuple[list[Pair], bool]]) -> None:
    """By the same reader again, by one that has read much else, and by one that has read nothing."""
    one = reader(RequestReader(10, asks=ASKS))
    for by in (one, one, LONG_LIVED, LONG_LIVED):
        encoder, table = judge.Encoder(), by.root
        for fields, ends in requests:
            block = encoder.encode(fields)
            fresh = reader(RequestReader(10, asks=ASKS))
            expected, _ = fresh.read(block, table, ends=ends)
            known = (table.whole if ends else table.heads).get(block)
            head, following = by.read(block, table, ends=ends)
            assert meaning(head) == meaning(expected)
            if known is not None:
                assert meaning(known[0]) == meaning(head)
                assert known[1].entries == following.entries
            assert [field[:2] for field in reversed(following.entries)] == list(encoder.header_table.dynamic_entries)
            table = following


# --- as HTTP/1.1 has it ---


well_formed = st.builds(
    lambda method, path, authority, others: [(b":method", method), SCHEME, (b":path", path), *authority, *others],
    st.sampled_from((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"TRACE", b"FOO")),
    st.sampled_from((b"/", b"/a?b", b"/?status=404", b"/readyz", b"/healthz?", b"/metrics", b"*", b"//", b"/#")),
    st.sampled_from(((), (AUTHORITY,), ((b":authority", b"a:b"),), ((b":authority", b""),))),
    st.lists(
        st.sampled_from((
            (b"host", b"x"), (b"host", b"[::1]:5"), (b"host", b"a b"), (b"accept", b"application/json"),
            (b"a", b"\xff"), (b"expect", b"100-continue"), (b"expect", b"else"), (b"content-length", b"0"),
            (b"te", b"trailers"), (b"content-type", b"a/b"), (b"content-encoding", b"gzip"), (b"x", b"v" * 3900),
            (b"content-language", b""),
        )),
        max_size=5,
    ),
)  # fmt: skip


@examples(1000)
@given(well_formed)
@example([*GET, (b"host", b"x")])
@example([*GET[:3], (b"host", b"")])
def test_a_request_means_what_it_would_over_http_1_1(fields: list[Pair]) -> None:
    """The text is one of HTTP/1.1 but for its version, and is read as one to the same effect."""
    head = read(*fields)
    assume(not head.malformed)  # a field is repeated that must not be
    assume(head.error is None or head.error.reason != OTHER_HOST)  # HTTP/1.1 has but one
    text = head.text.replace(b" HTTP/2\r\n", b" HTTP/1.1\r\n", 1)
    try:
        found = RequestReader().read(text)
    except HttpError as error:
        refused_with = error.status
    else:
        refused_with = 0
    if refused_with:
        assert head.error is not None
        assert head.error.status == refused_with
        return
    assert head.error is None
    if head.request is not None:
        request = head.request
        assert (request.page, request.probe, request.no_body) == (found.page, found.probe, found.no_body)
    elif head.echo:
        assert found.answer == messages.read(text).answer
        assert (found.page, found.content_type, found.controls) == (None, b"", None)
    else:
        assert (found.content_type, found.content_length) == (head.content_type, head.length)


# --- with C and in Python ---

_NAMES = st.sampled_from((
    b"accept", b"content-type", b"x-echo", b"cookie", b"te", b"host", b"content-length", b"connection", b":path",
    b"x-a", b"X-A", b"", b"a b",
))  # fmt: skip
_VALUES = st.sampled_from((
    b"", b"v", b" v", b"v ", b"\tv", b"v\t", b"a b\tc", b"\x7f", b"\x1f", b"\x80\xff", b"12", b"trailers", b"/",
)) | st.binary(max_size=12)  # fmt: skip


@examples(1000)
@given(st.lists(st.lists(st.tuples(_NAMES, _VALUES), max_size=6), max_size=6))
def test_fields_are_the_same_whether_made_in_c_or_in_python(sections: list[list[tuple[bytes, bytes]]]) -> None:
    encoder, decoder = judge.Encoder(), Http2Reader(RequestReader(), 1 << 16, 100)._decoder
    table = decoder.root
    for section in sections:
        block = encoder.encode(section)
        expected, following = decoder.decode_in_python(block, table, 1 << 16, 1000)
        fields, table = decoder.decode(block, table, 1 << 16, 1000)
        assert fields == expected
        assert (table.entries, table.size) == (following.entries, following.size)
