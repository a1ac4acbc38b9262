"""PROXY protocol preambles: read to the byte where they end, however they are torn, and refused as early as can be."""

import ipaddress
import itertools
import os
import re
import struct
from collections.abc import Iterable
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echoserver.wire.proxy_preamble import MAX_LINE, MAX_SIZE, BadPreamble, Preamble, PreambleReader, crc32c
from tests.unit.cutting import bytewise, cuts, in_pieces, pieces_of
from tests.unit.examples import examples

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"


def read(pieces: Iterable[bytes]) -> tuple[Preamble | None, int]:
    """What comes in pieces, read as a caller does that looks before it takes; and how many bytes were taken."""
    reader, position = PreambleReader(), 0
    for piece in pieces:
        taken = reader.feed(piece)
        position += taken
        assert len(reader._held) == position <= MAX_SIZE
        if reader.preamble:
            assert taken >= 1
            break
        assert taken == len(piece)
    return reader.preamble, position


def outcome(pieces: Iterable[bytes]) -> tuple[Preamble | None, int] | str:
    """The same, or what it was refused for."""
    try:
        return read(pieces)
    except BadPreamble as error:
        return str(error)


# --- examples, byte by byte as the specification has them ---

V4 = SIGNATURE + b"\x21\x11\x00\x0c\xc0\xa8\x00\x01\xc0\xa8\x00\x0b\xdc\x04\x01\xbb"
V4_ADDRESSES = (("192.168.0.1", 56324), ("192.168.0.11", 443))
V6_BLOCK = (
    b"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x02\xff\xff\x00\x00"
)
V6_ADDRESSES = (("2001:db8::1", 65535), ("::ffff:10.0.0.2", 0))
UNIX_BLOCK = b"/run/a.sock" + bytes(97) + b"/run/\xff" + bytes(102)
AWS = (
    SIGNATURE
    + b"\x21\x11\x00\x54\xac\x1f\x07\x71\xac\x1f\x0a\x1f\xc8\xf2\x00\x50"
    + b"\x03\x00\x04\xe8\xd6\x89\x2d"
    + b"\xea\x00\x17\x01vpce-08d2bf15fac5001c9"
    + b"\x04\x00\x24"
    + bytes(36)
)
"""As an AWS load balancer sent it, with its checksum."""

GOOD = {
    "v1, the specification's example": (
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        Preamble(1, *V4_ADDRESSES),
    ),
    "v1, the longest of IPv4": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        Preamble(1, ("255.255.255.255", 65535), ("255.255.255.255", 65535)),
    ),
    "v1, the shortest of IPv4": (
        b"PROXY TCP4 0.0.0.0 1.2.3.4 0 1\r\n",
        Preamble(1, ("0.0.0.0", 0), ("1.2.3.4", 1)),
    ),
    "v1, the longest of IPv6": (
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        Preamble(1, (":".join(["ffff"] * 8), 65535), (":".join(["ffff"] * 8), 65535)),
    ),
    "v1, IPv6 in other notations": (
        b"PROXY TCP6 2001:0DB8:0:0::0001 ::FFFF:10.0.0.2 65535 0\r\n",
        Preamble(1, *V6_ADDRESSES),
    ),
    "v1, unknown": (b"PROXY UNKNOWN\r\n", Preamble(1, None, None)),
    "v1, unknown, with a blank": (b"PROXY UNKNOWN \r\n", Preamble(1, None, None)),
    "v1, unknown, the longest": (
        b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
        b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        Preamble(1, None, None),
    ),
    "v1, unknown, with anything": (b"PROXY UNKNOWN \0\xff  TCP4 \t1\r\n", Preamble(1, None, None)),
    "v2, TCP over IPv4": (V4, Preamble(2, *V4_ADDRESSES)),
    "v2, UDP over IPv4": (V4[:13] + b"\x12" + V4[14:], Preamble(2, *V4_ADDRESSES)),
    "v2, TCP over IPv6": (SIGNATURE + b"\x21\x21\x00\x24" + V6_BLOCK, Preamble(2, *V6_ADDRESSES)),
    "v2, UDP over IPv6": (SIGNATURE + b"\x21\x22\x00\x24" + V6_BLOCK, Preamble(2, *V6_ADDRESSES)),
    "v2, unix stream": (
        SIGNATURE + b"\x21\x31\x00\xd8" + UNIX_BLOCK,
        Preamble(2, "/run/a.sock", os.fsdecode(b"/run/\xff")),
    ),
    "v2, unix datagram, all 108 bytes and none": (
        SIGNATURE + b"\x21\x32\x00\xd8" + b"/" * 108 + bytes(108),
        Preamble(2, "/" * 108, ""),
    ),
    "v2, unix, something behind the NUL": (
        SIGNATURE + b"\x21\x31\x00\xd8" + b"a\0b" + bytes(105) + b"\0abstract" + bytes(99),
        Preamble(2, "a", ""),
    ),
    "v2, local": (SIGNATURE + b"\x20\x00\x00\x00", Preamble(2, None, None)),
    "v2, local, with addresses": (SIGNATURE + b"\x20\x11\x00\x0c" + V4[16:], Preamble(2, None, None)),
    "v2, local, too short for its family": (SIGNATURE + b"\x20\x21\x00\x01?", Preamble(2, None, None)),
    "v2, local, no family at all": (SIGNATURE + b"\x20\xff\x00\x03???", Preamble(2, None, None)),
    "v2, unspecified": (SIGNATURE + b"\x21\x00\x00\x00", Preamble(2, None, None)),
    "v2, unspecified, with anything": (SIGNATURE + b"\x21\x00\x00\x05\x03\x00\x04??", Preamble(2, None, None)),
    "v2, family unspecified": (SIGNATURE + b"\x21\x01\x00\x02??", Preamble(2, None, None)),
    "v2, transport unspecified": (SIGNATURE + b"\x21\x10\x00\x0c" + V4[16:], Preamble(2, None, None)),
    "v2, TLVs": (
        V4[:14] + b"\x00\x1b" + V4[16:] + b"\x04\x00\x00" + b"\x01\x00\x02h2" + b"\xff\x00\x04\x03\x00\x04?",
        Preamble(2, *V4_ADDRESSES),
    ),
    "v2, TLVs and their checksum": (AWS, Preamble(2, ("172.31.7.113", 51442), ("172.31.10.31", 80))),
    "v2, TLVs of TLS by HAProxy": (
        SIGNATURE
        + b"\x21\x11\x00\x40\x7f\x00\x00\x01\x7f\x00\x00\x01\xcc\x8a\x23\x2e"
        + b"\x20\x00\x31\x07\x00\x00\x00\x00\x21\x00\x07TLSv1.3\x22\x00\x1fExample Common Name Client Cert",
        Preamble(2, ("127.0.0.1", 52362), ("127.0.0.1", 9006)),
    ),
}
good = pytest.mark.parametrize(("data", "preamble"), GOOD.values(), ids=GOOD)


@good
def test_it_is_read_however_it_is_torn(data: bytes, preamble: Preamble) -> None:
    for pieces in cuts(data):
        assert read(pieces) == (preamble, len(data))


@good
@pytest.mark.parametrize(
    "behind", [b"\n", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", SIGNATURE, b"PROXY UNKNOWN\r\n", bytes(70000)]
)
def test_what_is_behind_it_is_left(data: bytes, preamble: Preamble, behind: bytes) -> None:
    assert read([data + behind]) == (preamble, len(data))
    for cut in range(1, len(data)):
        for more in (behind[:1], behind):
            assert read([data[:cut], data[cut:] + more]) == (preamble, len(data))
    for size in range(1, min(len(data), 24)):
        assert read(in_pieces(data + behind[:100], size)) == (preamble, len(data))


@good
def test_no_beginning_is_complete(data: bytes, preamble: Preamble) -> None:
    for end in range(len(data)):
        assert read([data[:end]]) == (None, end)


def test_nothing_is_taken_of_nothing() -> None:
    assert read([b"", b"PROXY UNKNOWN\r", b"", b"\n"]) == (Preamble(1, None, None), 15)


# --- refused, at the last byte of these and not before ---

NEITHER = "begins with neither the v1 nor the v2 signature"
OTHER_PROTOCOL = "v1: the protocol is not TCP4, TCP6 or UNKNOWN"
LONG_LINE = "v1: no CRLF in 107 bytes"
NO_CRLF = "v1: the line does not end in CRLF"
WORDS_4, WORDS_6 = (
    f"v1: expected two addresses and two ports, with single spaces, after {name}" for name in ("TCP4", "TCP6")
)
CUT_OFF = "v2: the last TLV is cut off"
LONGER = "v2: a TLV is longer than the rest of the preamble"
WRONG_CRC = "v2: the CRC32c is wrong"


def with_vectors(vectors: bytes) -> bytes:
    return V4[:14] + bytes([0, 12 + len(vectors)]) + V4[16:] + vectors


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


BAD = {
    "HTTP": (b"G", NEITHER),
    "HTTP that begins alike": (b"PU", NEITHER),
    "TLS": (b"\x16", NEITHER),
    "NUL": (b"\0", NEITHER),
    "lower case": (b"p", NEITHER),
    "an empty line before it": (b"\r\nP", NEITHER),
    "v1, no blank": (b"PROXY\r", NEITHER),
    "v1, two blanks": (b"PROXY  ", OTHER_PROTOCOL),
    "v1, TCP5": (b"PROXY TCP5", OTHER_PROTOCOL),
    "v1, UDP4": (b"PROXY UD", OTHER_PROTOCOL),
    "v1, lower case": (b"PROXY t", OTHER_PROTOCOL),
    "v1, TCP without addresses": (b"PROXY TCP4\r", OTHER_PROTOCOL),
    "v1, a word that begins like unknown": (b"PROXY UNKNOWNS", OTHER_PROTOCOL),
    "v1, unknown, a bare LF": (b"PROXY UNKNOWN\n", OTHER_PROTOCOL),
    "v1, unknown, a bare CR": (b"PROXY UNKNOWN\r\r", NO_CRLF),
    "v1, unknown, a bare LF further on": (b"PROXY UNKNOWN 1\n", NO_CRLF),
    "v1, a bare LF": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", NO_CRLF),
    "v1, a bare CR": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r1", NO_CRLF),
    "v1, two CR": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\r", NO_CRLF),
    "v1, no end": (b"PROXY TCP4 " + b"1" * 95, LONG_LINE),
    "v1, one byte too long": (b"PROXY UNKNOWN " + b"1" * 92, LONG_LINE),
    "v1, no words": (b"PROXY TCP4 \r\n", WORDS_4),
    "v1, three words": (b"PROXY TCP6 ::1 ::1 1\r\n", WORDS_6),
    "v1, five words": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n", WORDS_4),
    "v1, a blank too many": (b"PROXY TCP4 1.1.1.1  1.1.1.1 1\r\n", WORDS_4),
    "v1, a blank before": (b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", WORDS_4),
    "v1, a blank at the end": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", WORDS_4),
    "v1, a tab": (b"PROXY TCP4 1.1.1.1\t1.1.1.1 1 1\r\n", WORDS_4),
    **{
        f"v1, IPv4 address {text!a}": (
            b"PROXY TCP4 %b 1.1.1.1 1 1\r\n" % text,
            f"v1: not an IPv4 address: {ascii(text)[1:]}",
        )
        for text in (
            b"1.1.1", b"1.1.1.1.1", b"1.1.1.256", b"1.1.1.01", b"1.1.1.00", b"001.1.1.1", b"1.1.1.", b".1.1.1",
            b"1..1.1", b"0x1.1.1.1", b"1.1.1.-1", b"+1.1.1.1", b"16843009", b"1.1.1.1\0", b"\xb9.1.1.1", b"localhost",
            b"::1", b"1.1.1.1/8", b"1.1.1.1:1", b"::ffff:1.1.1.1", b"1_0.1.1.1", b"\t1.1.1.1",
        )
    },
    **{
        f"v1, IPv6 address {text!a}": (
            b"PROXY TCP6 ::1 %b 1 1\r\n" % text,
            f"v1: not an IPv6 address: {ascii(text)[1:]}",
        )
        for text in (
            b"1.1.1.1", b":", b":::", b"::1::", b"1:2:3:4:5:6:7", b"1:2:3:4:5:6:7:8:9", b"1:2:3:4:5:6:7:8::",
            b"::12345", b"::g", b"[::1]", b"::1%1", b"fe80::1%lo", b"::1/64", b"::1.1.1", b"::01.1.1.1", b"::-1",
            b"::1\0", b"\xff::", b":1:2:3:4:5:6:7", b"1:2:3:4:5:6:7:",
        )
    },
    **{
        f"v1, port {text!a}": (b"PROXY TCP4 1.1.1.1 1.1.1.1 %b 1\r\n" % text, f"v1: not a port: {ascii(text)[1:]}")
        for text in (
            b"65536", b"99999", b"100000", b"01", b"00", b"+1", b"-1", b"0x1", b"1_0", b"http", b"\xb2", b"1\0", b"\t1",
        )
    },
    "v1, the other port": (b"PROXY TCP6 ::1 ::1 1 65536\r\n", "v1: not a port: '65536'"),
    "v2, no QUIT": (b"\r\n\r\n\0\r\nQUIR", NEITHER),
    "v2, version 1": (SIGNATURE + b"\x11", "v2: the version is 1, not 2"),
    "v2, version 3": (SIGNATURE + b"\x31", "v2: the version is 3, not 2"),
    "v2, version 0, as it was before 2014": (SIGNATURE + b"\x02", "v2: the version is 0, not 2"),
    "v2, command 2": (SIGNATURE + b"\x22", "v2: command 2 is neither LOCAL nor PROXY"),
    "v2, command 15": (SIGNATURE + b"\x2f", "v2: command 15 is neither LOCAL nor PROXY"),
    "v2, family 4": (SIGNATURE + b"\x21\x41", "v2: unknown address family 4"),
    "v2, family 15": (SIGNATURE + b"\x21\xf0", "v2: unknown address family 15"),
    "v2, transport 3": (SIGNATURE + b"\x21\x13", "v2: unknown transport protocol 3"),
    "v2, transport 15, no family": (SIGNATURE + b"\x21\x0f", "v2: unknown transport protocol 15"),
    "v2, longer than the most": (SIGNATURE + b"\x21\x11\x40\x01", "v2: 16401 bytes: expected at most 16400"),
    "v2, the longest": (SIGNATURE + b"\x21\x11\xff\xff", "v2: 65551 bytes: expected at most 16400"),
    "v2, local, longer than the most": (SIGNATURE + b"\x20\x00\x40\x01", "v2: 16401 bytes: expected at most 16400"),
    "v2, IPv4, no addresses": (SIGNATURE + b"\x21\x11\x00\x00", "v2: 0 bytes of addresses: expected at least 12"),
    "v2, IPv4, too short": (SIGNATURE + b"\x21\x12\x00\x0b", "v2: 11 bytes of addresses: expected at least 12"),
    "v2, IPv6, too short": (SIGNATURE + b"\x21\x21\x00\x23", "v2: 35 bytes of addresses: expected at least 36"),
    "v2, unix, too short": (SIGNATURE + b"\x21\x31\x00\xd7", "v2: 215 bytes of addresses: expected at least 216"),
    "v2, a byte of a TLV": (with_vectors(b"\x04"), CUT_OFF),
    "v2, a TLV without a length": (with_vectors(b"\x04\x00\x01?\x04\x00"), CUT_OFF),
    "v2, a TLV without a value": (with_vectors(b"\x04\x00\x01"), LONGER),
    "v2, a TLV too long": (with_vectors(b"\x04\x00\x04???"), LONGER),
    "v2, a TLV of 65,535": (with_vectors(b"\x04\xff\xff???"), LONGER),
    "v2, a checksum cut off": (with_vectors(b"\x03\x00\x04???"), LONGER),
    "v2, a short checksum": (with_vectors(b"\x03\x00\x03???"), "v2: a CRC32c of 3 bytes, not 4"),
    "v2, a long checksum": (with_vectors(b"\x03\x00\x05?????"), "v2: a CRC32c of 5 bytes, not 4"),
    "v2, an empty checksum": (with_vectors(b"\x03\x00\x00"), "v2: a CRC32c of 0 bytes, not 4"),
    "v2, two checksums": (with_vectors(b"\x03\x00\x04????\x03\x00\x04????"), "v2: more than one CRC32c"),
    "v2, no checksum but zeros": (with_vectors(b"\x03\x00\x04\0\0\0\0"), WRONG_CRC),
    "v2, another checksum": (flipped(AWS, 31), WRONG_CRC),
    "v2, the checksum in SCTP's byte order": (AWS[:31] + AWS[34:30:-1] + AWS[35:], WRONG_CRC),
    "v2, another address than the checksum's": (flipped(AWS, 16), WRONG_CRC),
    "v2, another transport than the checksum's": (AWS[:13] + b"\x12" + AWS[14:], WRONG_CRC),
    "v2, another value than the checksum's": (flipped(AWS, 99), WRONG_CRC),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_it_is_refused_as_early_as_can_be_however_it_is_torn(data: bytes, message: str) -> None:
    assert read([data[:-1]]) == (None, len(data) - 1)
    for whole in (data, data + b"\r\n", data + b"PROXY UNKNOWN\r\n" + bytes(200)):
        for pieces in cuts(whole):
            assert outcome(pieces) == message


def test_a_line_of_the_longest_and_one_byte_more() -> None:
    line = b"PROXY UNKNOWN " + b"1" * 91 + b"\r\n"
    assert len(line) == MAX_LINE
    assert read([line]) == (Preamble(1, None, None), MAX_LINE)
    assert outcome([line[:14] + b"1" + line[14:]]) == LONG_LINE


@pytest.mark.parametrize("position", [position for position in range(16, len(AWS)) if position != 28])
def test_a_checksum_finds_any_bit_that_changed(position: int) -> None:
    """28 is the type of its own TLV: there is no checksum then."""
    assert isinstance(outcome([flipped(AWS, position)]), str)


# --- limits ---


@pytest.mark.parametrize("size", [1, 7, 1460, MAX_SIZE, 3 * MAX_SIZE])
@pytest.mark.parametrize("kind", [b"\x20\x00", b"\x21\x00", b"\x21\x11"])
def test_the_longest_is_taken(size: int, kind: bytes) -> None:
    data = SIGNATURE + kind + b"\x40\x00" + V4[16:] + b"\x04\x3f\xf1" + bytes(16384 - 12 - 3)
    assert len(data) == MAX_SIZE
    preamble, end = read(in_pieces(data + b"behind" * MAX_SIZE, size))
    assert (preamble, end) == (Preamble(2, *(V4_ADDRESSES if kind == b"\x21\x11" else (None, None))), MAX_SIZE)


def test_what_is_held_is_what_has_come() -> None:
    reader = PreambleReader()
    assert reader.feed(SIGNATURE + b"\x21\x11\x40\x00") == 16
    assert reader._held.__sizeof__() < 200


# --- checksums ---


def plain_crc32c(data: bytes) -> int:
    """CRC32c by its definition, a bit at a time and not reflected."""
    remainder = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            carry = remainder >> 31 ^ byte >> bit & 1
            remainder = (remainder << 1 & 0xFFFFFFFF) ^ carry * 0x1EDC6F41
    return int(f"{remainder ^ 0xFFFFFFFF:032b}"[::-1], 2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected == plain_crc32c(data)


@examples(300)
@given(data=st.binary(max_size=300))
def test_any_checksum(data: bytes) -> None:
    assert crc32c(data) == plain_crc32c(data)


# --- whatever is sent ---

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Meaning = tuple[int, object, object]
"""Version, source, destination: addresses as numbers, so that notation makes no difference."""

ports = st.sampled_from([0, 1, 9, 10, 65535]) | st.integers(0, 65535)
paths = st.binary(max_size=108).map(lambda path: path.split(b"\0")[0])
vectors = st.lists(
    st.builds(
        lambda kind, value: struct.pack(">BH", kind, len(value)) + value,
        st.integers(0, 255).filter(lambda kind: kind != 3),
        st.binary(max_size=12) | st.just(bytes(300)),
    ),
    max_size=4,
)


def meaning(preamble: Preamble) -> Meaning:
    source, destination = (
        (ipaddress.ip_address(address[0]), address[1]) if isinstance(address, tuple) else address
        for address in (preamble.source, preamble.destination)
    )
    return preamble.version, source, destination


def notations(address: IP) -> list[str]:
    if isinstance(address, ipaddress.IPv4Address):
        return [str(address)]
    return [address.compressed, address.exploded, address.compressed.upper(), address.exploded.upper()]


@st.composite
def lines(draw: st.DrawFn) -> tuple[bytes, Meaning]:
    """A well-formed v1 preamble, and what it means."""
    version: Literal[4, 6] | None = draw(st.sampled_from([None, 4, 6]))
    if version is None:
        rest = draw(st.just(b"") | st.binary(max_size=91).map(lambda rest: b" " + re.sub(rb"[\r\n]", b"?", rest)))
        return b"PROXY UNKNOWN" + rest + b"\r\n", (1, None, None)
    source, destination = draw(st.ip_addresses(v=version)), draw(st.ip_addresses(v=version))
    port, other_port = draw(ports), draw(ports)
    words = draw(st.sampled_from(notations(source))), draw(st.sampled_from(notations(destination)))
    line = f"PROXY TCP{version} {words[0]} {words[1]} {port} {other_port}\r\n"
    return line.encode(), (1, (source, port), (destination, other_port))


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, Meaning]:
    """A well-formed v2 preamble, and what it means."""
    command = draw(st.sampled_from([0x20, 0x21, 0x21, 0x21]))
    family, transport = draw(st.sampled_from([0, 1, 1, 2, 2, 3])), draw(st.sampled_from([0, 1, 1, 2]))
    if command == 0x20 or not family or not transport:
        rest = draw(st.binary(max_size=40) | st.just(bytes(2000)))
        kind = draw(st.integers(0, 255)) if command == 0x20 else family << 4 | transport
        return SIGNATURE + struct.pack(">BBH", command, kind, len(rest)) + rest, (2, None, None)
    means: Meaning
    if family == 3:
        source, destination = draw(paths), draw(paths)
        addresses = source.ljust(108, b"\0") + destination.ljust(108, b"\0")
        means = 2, os.fsdecode(source), os.fsdecode(destination)
    else:
        ends = [draw(st.ip_addresses(v=4 if family == 1 else 6)) for _ in range(2)]
        numbers = draw(ports), draw(ports)
        addresses = ends[0].packed + ends[1].packed + struct.pack(">HH", *numbers)
        means = 2, (ends[0], numbers[0]), (ends[1], numbers[1])
    parts = draw(vectors)
    place = draw(st.none() | st.integers(0, len(parts)))
    if place is not None:
        parts.insert(place, b"\x03\x00\x04" + bytes(4))
    length = len(addresses) + sum(map(len, parts))
    block = SIGNATURE + struct.pack(">BBH", command, family << 4 | transport, length) + addresses
    if place is not None:
        parts[place] = b"\x03\x00\x04" + struct.pack(">I", plain_crc32c(block + b"".join(parts)))
    return block + b"".join(parts), means


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A preamble in which some bytes have been put, taken out or replaced."""
    data = draw(lines() | blocks())[0]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, min(len(data), 40)) | st.integers(0, len(data)))
        stop = start + draw(st.sampled_from([0, 1, 1, 1, 2]))
        data = data[:start] + draw(st.sampled_from(BITS) | st.binary(max_size=2)) + data[stop:]
    return data


BITS = [
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"0",
    b"1",
    b"9",
    b":",
    b"::",
    b".",
    b"f",
    b"\0",
    b"\x20",
    b"\x21",
    b"\x11",
    b"\x03",
]
BEGINNINGS = [b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21", V4[:15]]
anything = st.builds(bytes.__add__, st.sampled_from(BEGINNINGS), st.binary(max_size=300))
NUMBER = "(0|[1-9][0-9]*)"
LINE = re.compile(rf"PROXY TCP([46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) {NUMBER} {NUMBER}\r\n")


def judge(data: bytes) -> tuple[Meaning, int] | None:
    """What data begins with, read in another way: all of it at once. None: no preamble, or not all of one."""
    try:
        return judge_block(data) if data.startswith(SIGNATURE) else judge_line(data)
    except (ValueError, IndexError, struct.error):
        return None


def judge_line(data: bytes) -> tuple[Meaning, int] | None:
    line = data[:107].decode("latin-1")
    if unknown := re.match(r"PROXY UNKNOWN(?: [^\r\n]*)?\r\n", line):
        return (1, None, None), unknown.end()
    found = LINE.match(line)
    if found is None:
        return None
    version, *words, port, other_port = found.groups()
    kind = ipaddress.IPv4Address if version == "4" else ipaddress.IPv6Address
    source, destination = map(kind, words)
    if max(int(port), int(other_port)) > 65535:
        return None
    return (1, (source, int(port)), (destination, int(other_port))), found.end()


def judge_block(data: bytes) -> tuple[Meaning, int] | None:
    command, kind, length = struct.unpack(">BBH", data[12:16])
    end = 16 + length
    if command not in {0x20, 0x21} or length > 16384 or len(data) < end:
        return None
    if command == 0x20 or kind in {0x00, 0x01, 0x02, 0x10, 0x20, 0x30}:
        return (2, None, None), end
    size = {1: 4, 2: 16, 3: 108}[kind >> 4] if kind & 15 in {1, 2} and kind >> 4 in {1, 2, 3} else None
    if size is None or length < 2 * size + 4 * (size < 108):
        return None
    source, destination = data[16 : 16 + size], data[16 + size : 16 + 2 * size]
    position = 16 + 2 * size
    means: Meaning = 2, os.fsdecode(source.partition(b"\0")[0]), os.fsdecode(destination.partition(b"\0")[0])
    if size < 108:
        port, other_port = struct.unpack(">HH", data[position : position + 4])
        means = 2, (ipaddress.ip_address(source), port), (ipaddress.ip_address(destination), other_port)
        position += 4
    checksums = []
    while position < end:
        kind, length = struct.unpack(">BH", data[position : min(position + 3, end)])
        position += 3 + length
        if kind == 3:
            checksums.append(data[position - length : position])
            blank = data[: position - length] + bytes(length) + data[position:end]
    if position > end or len(checksums) > 1:
        return None
    if checksums and checksums[0] != struct.pack(">I", plain_crc32c(blank)):
        return None
    return means, end


@examples(1500)
@given(preamble=lines() | blocks(), behind=st.binary(max_size=40), choose=st.data())
def test_any_preamble_in_any_pieces(preamble: tuple[bytes, Meaning], behind: bytes, choose: st.DataObject) -> None:
    data, means = preamble
    found, end = read(choose.draw(pieces_of(data + behind)))
    assert found is not None
    assert (meaning(found), end) == (means, len(data))


@examples(400)
@given(version=st.sampled_from([4, 6]), choose=st.data(), numbers=st.tuples(ports, ports))
def test_both_versions_say_the_same(version: Literal[4, 6], choose: st.DataObject, numbers: tuple[int, int]) -> None:
    source, destination = choose.draw(st.ip_addresses(v=version)), choose.draw(st.ip_addresses(v=version))
    text = choose.draw(st.sampled_from(notations(source)))
    first, _ = read([f"PROXY TCP{version} {text} {destination} {numbers[0]} {numbers[1]}\r\n".encode()])
    block = source.packed + destination.packed + struct.pack(">HH", *numbers)
    second, _ = read([SIGNATURE + struct.pack(">BBH", 0x21, 0x11 if version == 4 else 0x21, len(block)) + block])
    assert first is not None
    assert second is not None
    assert (first.source, first.destination) == (second.source, second.destination)


@examples(3000)
@given(data=mutated() | anything, choose=st.data())
def test_how_it_is_torn_makes_no_difference(data: bytes, choose: st.DataObject) -> None:
    expected = outcome([data])
    assert outcome(choose.draw(pieces_of(data))) == expected
    assert outcome(bytewise(data)) == expected


@examples(3000)
@given(data=mutated() | anything)
@example(data=b"PROXY UNKNOWN " + b"1" * 91 + b"\r\n")
@example(data=b"PROXY UNKNOWN " + b"1" * 92 + b"\r\n")
@example(data=b"PROXY TCP6 ::1.2.3.4 ::ffff:1.2.3.4 1 1\r\n")
@example(data=b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n")
@example(data=b"PROXY TCP4 1.2.3.4 1.2.3.04 1 1\r\n")
def test_another_reader_says_the_same(data: bytes) -> None:
    found = outcome([data])
    if isinstance(found, str) or found[0] is None:
        assert judge(data) is None
    else:
        assert (meaning(found[0]), found[1]) == judge(data)


@examples(1500)
@given(data=mutated() | anything, windows=st.lists(st.integers(1, 40), min_size=1))
def test_a_caller_that_looks_before_it_takes_never_spins(data: bytes, windows: list[int]) -> None:
    reader, position = PreambleReader(), 0
    for window in itertools.cycle(windows):
        seen = data[position : position + window]
        if not seen:
            break
        try:
            taken = reader.feed(seen)
        except BadPreamble:
            break
        assert 1 <= taken <= len(seen)
        position += taken
        assert len(reader._held) == position
        if reader.preamble:
            break
