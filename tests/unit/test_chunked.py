"""Chunked content: decoded to the byte where it ends, however it is cut."""

import random
import re
from collections.abc import Iterable

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echoserver.wire.chunked import ChunkedDecoder, one_chunk
from echoserver.wire.response import HttpError
from tests.unit.cutting import bytewise, cuts, in_pieces, pieces_of
from tests.unit.examples import examples

MAX_LINE = 4096
"""Bytes of a size line, and of all trailer lines together."""

BAD_SIZE = (400, "a chunk must begin with its size in hexadecimal digits")
BAD_EXTENSION = (400, "a chunk extension is neither ;name nor ;name=value (RFC 9112 section 7.1.1)")
TOO_LONG = (400, "a chunk is longer than its size says")
LONG_LINE = (400, "a line of chunked content is longer than 4096 bytes")
NO_CRLF = (400, "a line of chunked content does not end in CRLF")
BAD_TRAILER = (400, "a line of the trailer section must be a field line, Name: value")
LONG_TRAILER = (431, "the trailer section is longer than 4096 bytes")


def decode(pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """The content of what comes in pieces, and where in all of it the message ended: -1 if it did not."""
    decoder, content, position = ChunkedDecoder(), b"", 0
    for piece in pieces:
        part, end = feed(decoder, piece)
        content += part
        if decoder.complete:
            return content, position + end
        assert end == len(piece)
        position += len(piece)
    return content, -1


def feed(decoder: ChunkedDecoder, data: bytes, position: int = 0) -> tuple[bytes, int]:
    """Feed in as many steps as it takes; returns the content, and how far data was taken."""
    content = b""
    while True:
        part, position = decoder.feed(data, position)
        content += part
        if decoder.complete or position == len(data):
            return content, position
        assert part, "a step without progress"


GOOD = {
    "no content": (b"0\r\n\r\n", b""),
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "several": (b"5\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n0\r\n\r\n", b"hello, world"),
    "content that looks like chunks": (b"a\r\n\r\n0\r\n\r\n5\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n5\r\n"),
    "hexadecimal in both cases, with zeros": (
        b"00a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n",
        b"0123456789" * 2,
    ),
    "extensions": (b'1;a\r\nx\r\n1;b=c;d="e \\" f;\t"\r\ny\r\n0;last\r\n\r\n', b"xy"),
    "blanks around extensions (RFC 9112 section 7.1.1)": (b"1 \t; a = b\r\nx\r\n0 ;c\r\n\r\n", b"x"),
    "quoted strings (RFC 9112 section 7.1.1)": (b'1;a="b;c=[\\"]";d=""\r\nx\r\n0;e="\\\\"\r\n\r\n', b"x"),
    "a size with many zeros (RFC 9112 section 7.1)": (b"0" * 50 + b"1\r\nx\r\n" + b"0" * 50 + b"\r\n\r\n", b"x"),
    "extensions of high bytes": (b'1;a="\xc3\xa9"\r\nx\r\n0\r\n\r\n', b"x"),
    "trailers": (b"1\r\nx\r\n0\r\nA: b\r\nc:\r\nD: \t\xff \r\n\r\n", b"x"),
}
good = pytest.mark.parametrize(("data", "content"), GOOD.values(), ids=GOOD)


@good
def test_it_is_decoded_however_it_is_cut(data: bytes, content: bytes) -> None:
    for pieces in cuts(data):
        assert decode(pieces) == (content, len(data))


@good
@pytest.mark.parametrize("behind", [b"\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n"])
def test_what_is_behind_it_is_left(data: bytes, content: bytes, behind: bytes) -> None:
    for pieces in cuts(data + behind):
        assert decode(pieces) == (content, len(data))


@good
def test_what_is_before_it_is_not_looked_at(data: bytes, content: bytes) -> None:
    assert ChunkedDecoder().feed(b"0\r\n\r\n" + data + b"0", 5) == (content, 5 + len(data))
    for cut in range(1, len(data)):
        decoder = ChunkedDecoder()
        first, end = decoder.feed(b"???" + data[:cut], 3)
        assert end == 3 + cut
        assert not decoder.complete
        second, end = decoder.feed(b"????" + data[cut:] + b"0", 4)
        assert (first + second, end) == (content, 4 + len(data) - cut)


@good
def test_no_beginning_is_the_end(data: bytes, content: bytes) -> None:
    for end in range(len(data)):
        found, stop = decode([data[:end]])
        assert stop == -1
        assert content.startswith(found)


def test_content_is_given_as_it_comes() -> None:
    decoder = ChunkedDecoder()
    given_so_far = [decoder.feed(piece)[0] for piece in (b"5\r\nhe", b"l", b"lo", b"\r\n3\r", b"\nabc\r\n0\r\n")]
    assert given_so_far == [b"he", b"l", b"lo", b"", b"abc"]


def test_many_small_chunks_are_decoded_in_steps() -> None:
    decoder, data = ChunkedDecoder(), b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"
    content, end = decoder.feed(data)
    assert 0 < len(content) <= 256
    assert end < 6 * 256
    assert not decoder.complete
    assert feed(decoder, data, end) == (b"x" * (1000 - len(content)), len(data))
    assert decoder.complete


BAD = {
    "nothing but a line end": (b"\r\n", BAD_SIZE),
    "no hexadecimal": (b"x\r\n", BAD_SIZE),
    "0x": (b"0x5\r\nhello\r\n", BAD_SIZE),
    "a sign": (b"+5\r\nhello\r\n", BAD_SIZE),
    "a negative size": (b"-1\r\n", BAD_SIZE),
    "an underscore": (b"1_0\r\n", BAD_SIZE),
    "a blank before": (b" 5\r\nhello\r\n", BAD_SIZE),
    "a blank behind": (b"5 \r\nhello\r\n", BAD_SIZE),
    "two sizes": (b"5 5\r\nhello\r\n", BAD_SIZE),
    "a size of 64 bits": (b"ffffffffffffffff\r\n", BAD_SIZE),
    "a size behind the first": (b"1\r\nx\r\nz\r\n", BAD_SIZE),
    "a bare LF for an end": (b"5\nhello\r\n", BAD_SIZE),
    "a size of 64 bits behind zeros": (b"0000ffffffffffffffff\r\n", BAD_SIZE),
    **{
        f"RFC 9112 section 7.1.1: {extension!r}": (b"5%b\r\nhello\r\n" % extension, BAD_EXTENSION)
        for extension in (
            b";",
            b";;a",
            b";a;",
            b";=b",
            b";a=",
            b";bad[=x",
            b";a=b[",
            b";a b",
            b";a=b c",
            b"; ",
            b";a ",
            b";a=b ",
            b';a="b',
            b';a=b"',
            b';a="b"c',
            b';a="\\"',
            b';a="b\\',
            b';"a"=b',
            b';a="\x01"',
            b';a="\x7f"',
            b";a=\xc3",
            b";\0",
            b";a=\x01",
            b";a\nb",
            b";a\rb",
            b';a="\rb"',
        )
    },
    "more than the size": (b"1\r\nhello\r\n", TOO_LONG),
    "one more than the size": (b"1\r\nhe\r\n", TOO_LONG),
    "a bare LF behind the content": (b"1\r\nh\n0\r\n\r\n", TOO_LONG),
    "a bare CR behind the content": (b"1\r\nh\r0\r\n\r\n", TOO_LONG),
    "a trailer without a colon": (b"0\r\nA\r\n\r\n", BAD_TRAILER),
    "a trailer without a name": (b"0\r\n: a\r\n\r\n", BAD_TRAILER),
    "a blank before the colon": (b"0\r\nA : b\r\n\r\n", BAD_TRAILER),
    "an obsolete fold": (b"0\r\nA: b\r\n c\r\n\r\n", BAD_TRAILER),
    "NUL in a trailer": (b"0\r\nA: \0\r\n\r\n", BAD_TRAILER),
    "a bare LF in a trailer": (b"0\r\nA: b\nB: c\r\n\r\n", BAD_TRAILER),
    "a bare CR in a trailer": (b"0\r\nA: b\rB: c\r\n\r\n", BAD_TRAILER),
    "a bare LF for the end": (b"0\r\n\n\r\n", BAD_TRAILER),
}


@pytest.mark.parametrize(("data", "expected"), BAD.values(), ids=BAD)
def test_what_is_no_chunked_content_is_refused_however_it_is_cut(data: bytes, expected: tuple[int, str]) -> None:
    for pieces in cuts(data):
        with pytest.raises(HttpError) as caught:
            decode(pieces)
        assert caught.value.args in {expected, NO_CRLF}  # a bare LF may be seen before the end of its line


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"5\n", NO_CRLF), (b"0\r\nA: b\n", NO_CRLF), (b"1\r\nhe", TOO_LONG), (b"1\r\nh\n", TOO_LONG)],
)
def test_what_cannot_become_a_line_is_refused_at_once(data: bytes, expected: tuple[int, str]) -> None:
    for pieces in ([data], bytewise(data)):
        with pytest.raises(HttpError) as caught:
            decode(pieces)
        assert caught.value.args == expected


# --- limits ---


def size_line(length: int) -> bytes:
    return b"1;" + b"a" * (length - 2) + b"\r\n"


def trailers(*lengths: int) -> bytes:
    """Trailer lines of such lengths, their line ends included."""
    return b"".join(b"A:" + b"b" * (length - 4) + b"\r\n" for length in lengths)


AT_THE_LIMIT = {
    "size line": size_line(MAX_LINE) + b"x\r\n0\r\n\r\n",
    "one trailer": b"1\r\nx\r\n0\r\n" + trailers(MAX_LINE) + b"\r\n",
    "trailers": b"1\r\nx\r\n0\r\n" + trailers(96, 2000, 2000) + b"\r\n",
}
BEYOND = {
    "size line": (size_line(MAX_LINE + 1) + b"x\r\n0\r\n\r\n", LONG_LINE),
    "a very long size line": (size_line(3 * MAX_LINE) + b"x\r\n0\r\n\r\n", LONG_LINE),
    "one trailer": (b"1\r\nx\r\n0\r\n" + trailers(MAX_LINE + 1) + b"\r\n", LONG_TRAILER),
    "a long trailer": (b"1\r\nx\r\n0\r\n" + trailers(MAX_LINE + 2) + b"\r\n", LONG_TRAILER),
    "a very long trailer": (b"1\r\nx\r\n0\r\n" + trailers(3 * MAX_LINE) + b"\r\n", LONG_TRAILER),
    "trailers": (b"1\r\nx\r\n0\r\n" + trailers(97, 2000, 2000) + b"\r\n", LONG_TRAILER),
}


@pytest.mark.parametrize("data", AT_THE_LIMIT.values(), ids=AT_THE_LIMIT)
def test_up_to_the_limit_it_is_taken_however_it_is_cut(data: bytes) -> None:
    for pieces in cuts(data):
        assert decode(pieces) == (b"x", len(data))


@pytest.mark.parametrize(("data", "expected"), BEYOND.values(), ids=BEYOND)
def test_beyond_the_limit_it_is_refused_however_it_is_cut(data: bytes, expected: tuple[int, str]) -> None:
    for pieces in cuts(data):
        with pytest.raises(HttpError) as caught:
            decode(pieces)
        assert caught.value.args == expected


@pytest.mark.parametrize("start", [b"", b"1;", b"5\r\nhello\r\n1;a=", b"0\r\n", b"0\r\nA:", b"0\r\nA: b\r\nB: "])
def test_what_is_kept_of_a_line_without_end_is_bounded(start: bytes) -> None:
    decoder = ChunkedDecoder()
    decoder.feed(start)
    fed = 0
    with pytest.raises(HttpError):  # noqa: PT012 - in which of the turns is the decoder's to say
        while True:
            assert len(decoder._rest) <= MAX_LINE + 2
            assert fed <= MAX_LINE + 2
            decoder.feed(b"1")
            fed += 1


# --- whatever is sent ---

token = st.text("abcXYZ-_!#$%&'*+.^`|~019", min_size=1, max_size=6).map(str.encode)
text = st.binary(max_size=8).map(lambda value: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"?", value))
extension = (
    st.builds(b";%b".__mod__, token)
    | st.builds(lambda name, value: b";%b=%b" % (name, value), token, token)
    | (st.builds(lambda name, value: b';%b="%b"' % (name, re.sub(rb'["\\]', b"", value)), token, text))
)
trailer = st.builds(lambda name, value: b"x%b: %b\r\n" % (name, value), token, text)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Chunked content with extensions and trailers, and what it decodes to."""
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40) | st.just(bytes(300)), max_size=6))
    data = b""
    for chunk in chunks:
        size = draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(chunk)
        data += b"%b%b\r\n%b\r\n" % (size, b"".join(draw(st.lists(extension, max_size=2))), chunk)
    data += b"%b\r\n%b\r\n" % (
        draw(st.sampled_from([b"0", b"000", b"0;a=b"])),
        b"".join(draw(st.lists(trailer, max_size=3))),
    )
    return data, b"".join(chunks)


class Theirs:
    """The same message read by llhttp: its content, and whether it ended; error: what llhttp refused it for."""

    def __init__(self, data: bytes) -> None:
        self.content = b""
        self.complete = False
        self.error: str | None = None
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.error = str(error)

    def on_body(self, data: bytes) -> None:
        self.content += data

    def on_message_complete(self) -> None:
        self.complete = True


@examples(300)
@given(message=messages(), behind=st.binary(max_size=20), choose=st.data())
def test_any_content_in_any_pieces(message: tuple[bytes, bytes], behind: bytes, choose: st.DataObject) -> None:
    data, content = message
    assert decode(choose.draw(pieces_of(data + behind))) == (content, len(data))
    theirs = Theirs(data)
    assert (theirs.content, theirs.complete, theirs.error) == (content, True, None)


BITS = [
    b"\r\n",
    b"\r",
    b"\n",
    b"0",
    b"1",
    b"5",
    b"a",
    b"F",
    b";",
    b";a=b",
    b" ",
    b"\t",
    b":",
    b"A: b",
    b"0\r\n\r\n",
    b"\0",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Chunked content in which some bits have been put, taken out or replaced."""
    data = draw(messages())[0]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        stop = start + draw(st.sampled_from([0, 0, 1, 2]))
        data = data[:start] + draw(st.sampled_from(BITS) | st.binary(max_size=2)) + data[stop:]
    return data


@examples(600)
@given(data=mutated() | st.lists(st.sampled_from(BITS), max_size=12).map(b"".join))
@example(data=b"1\r\nx\n\r\n0\r\n\r\n")
def test_what_is_accepted_llhttp_accepts_as_the_same_content(data: bytes) -> None:
    try:
        content, end = decode([data])
    except HttpError:
        return
    theirs = Theirs(data if end < 0 else data[:end])
    if theirs.error is None:
        assert (theirs.content, theirs.complete) == (content, end >= 0)
    else:
        assert content.startswith(theirs.content)
        # llhttp knows no blanks around extensions, and judges a line before its end
        assert end < 0 or b";" in data or b":" in data


@examples(600)
@given(data=messages().map(lambda message: message[0]) | mutated(), before=st.binary(max_size=3))
@example(data=b"5\r\nhello\r\n0\r\n\r\n", before=b"")
def test_one_chunk_is_what_the_decoder_says(data: bytes, before: bytes) -> None:
    found = one_chunk(before + data, len(before))
    if found is not None:
        assert feed(ChunkedDecoder(), before + data, len(before)) == found


@pytest.mark.parametrize("behind", [b"", b"\r\n", b"GET / HTTP/1.1\r\n"])
def test_one_chunk_with_all_that_is_behind_it(behind: bytes) -> None:
    data = b"0A\r\n\r\n0\r\n\r\nabc\r\n0\r\n\r\n"
    assert one_chunk(b"??" + data + behind, 2) == (b"\r\n0\r\n\r\nabc", 2 + len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"3", b"3\r", b"3\r\nab", b"3\r\nabc\r\n0\r\n\r", b"3\r\nabcd\r\n0\r\n\r\n", b"0\r\n\r\n",
        b"3;a=b\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nA: b\r\n\r\n", b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n", b"x\r\n",
        b"fffffffffffffff\r\n",
    ],
)  # fmt: skip
def test_what_is_more_or_less_than_one_chunk_is_left_to_the_decoder(data: bytes) -> None:
    assert one_chunk(data, 0) is None


@examples(300)
@given(data=st.binary(max_size=300) | mutated(), choose=st.data())
def test_arbitrary_bytes_are_content_or_refused(data: bytes, choose: st.DataObject) -> None:
    decoder = ChunkedDecoder()
    try:
        for piece in choose.draw(pieces_of(data)):
            content, end = feed(decoder, piece)
            assert len(content) <= len(piece)
            assert 0 <= end <= len(piece)
            assert len(decoder._rest) <= MAX_LINE + 2
            if decoder.complete:
                return
    except HttpError as error:
        status = error.status
    else:
        return
    assert status in {400, 431}


@examples(300)
@given(data=mutated(), choose=st.data())
def test_how_it_is_cut_makes_no_difference(data: bytes, choose: st.DataObject) -> None:
    def outcome(pieces: list[bytes]) -> tuple[bytes, int] | int:
        try:
            return decode(pieces)
        except HttpError as error:
            return error.status

    assert outcome(choose.draw(pieces_of(data))) == outcome([data])


def test_large_content_in_small_chunks() -> None:
    generator = random.Random(7)
    content = generator.randbytes(1 << 18)
    data, position = bytearray(), 0
    while position < len(content):
        size = generator.choice([1, 2, 15, 16, 255, 4096, 60000])
        chunk = content[position : position + size]
        data += b"%x\r\n%b\r\n" % (len(chunk), chunk)
        position += size
    data += b"0\r\n\r\n"
    assert decode(in_pieces(bytes(data), 1460)) == (content, len(data))
