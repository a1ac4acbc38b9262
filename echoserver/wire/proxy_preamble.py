"""PROXY protocol preambles, versions 1 and 2 (HAProxy's proxy-protocol.txt), read as they come and to the byte."""

import functools
import os
import re
import socket
import struct
from dataclasses import dataclass

MAX_SIZE = 16 + 16384
"""Bytes of a v2 preamble. Its length field could claim 65,535, and the specification means it to fit a segment of 536;
HAProxy builds it in a buffer of 16 KiB (tune.bufsize), and nothing that is sent in practice comes near that."""

MAX_LINE = 107
"""Bytes of a v1 preamble, its CRLF included (section 2.1)."""

_ANY_LINE = b"PROXY "
_LINES = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r")
_LINE_END = re.compile(rb"[\r\n]")
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEADER = 16  # bytes: signature, version and command, family and transport, two of the length of what follows
_PROXY = 1  # the last of the commands; 0 is LOCAL
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_DGRAM = 2  # the last of the transports
_LAYOUTS = {
    _INET: struct.Struct("!4s4sHH"),
    _INET6: struct.Struct("!16s16sHH"),
    _UNIX: struct.Struct("!108s108s"),
}
_VECTOR = struct.Struct("!BH")  # type, length of the value that follows
_CRC32C = 0x03

_Address = tuple[str, int] | str


class BadPreamble(ValueError):
    """It is no PROXY protocol preamble; the message says why not."""


@dataclass(frozen=True, slots=True)
class Preamble:
    """What a proxy says of the connection that it relays.

    An address is (address, port), the path of a unix socket ("": it has none), or None: those of the connection to the
    proxy are to be used (LOCAL, UNKNOWN, UNSPEC).
    """

    version: int
    source: _Address | None
    destination: _Address | None


class PreambleReader:
    """Takes a preamble as it comes, torn anywhere, and not one byte more than belongs to it."""

    __slots__ = ("_end", "_held", "preamble")

    preamble: Preamble | None
    """Set when it is complete; nothing may be fed from then on."""

    def __init__(self) -> None:
        self.preamble = None
        self._held = bytearray()
        self._end = 0  # where it ends, once that is known

    def feed(self, data: bytes) -> int:
        """How many bytes at the beginning of data belong to the preamble: all, unless it ends among them.

        Raises BadPreamble as soon as it can't become one; nothing can be read from this connection after that.
        """
        before = len(self._held)
        if not self._end:
            self._end = _end_of(bytes(self._held) + data[: MAX_LINE - before])
        taken = data[: self._end - before] if self._end else data
        self._held += taken
        if self._end and len(self._held) == self._end:
            whole = bytes(self._held)
            self.preamble = _read_block(whole) if whole.startswith(_SIGNATURE) else _read_line(whole)
        return len(taken)


def _end_of(beginning: bytes) -> int:
    """Where the preamble of this beginning ends; 0: that is not known yet."""
    if _SIGNATURE.startswith(beginning[: len(_SIGNATURE)]):
        return _end_of_block(beginning)
    if _ANY_LINE.startswith(beginning[: len(_ANY_LINE)]):
        return _end_of_line(beginning)
    raise BadPreamble("begins with neither the v1 nor the v2 signature")


# --- version 1 ---


def _end_of_line(beginning: bytes) -> int:
    if not any(line.startswith(beginning[: len(line)]) for line in _LINES):
        raise BadPreamble("v1: the protocol is not TCP4, TCP6 or UNKNOWN")
    found = _LINE_END.search(beginning, 0, MAX_LINE - 1)  # the CR at the latest
    if found is None:
        if len(beginning) >= MAX_LINE - 1:
            raise BadPreamble(f"v1: no CRLF in {MAX_LINE} bytes")
        return 0
    end = found.start() + 2
    if not b"\r\n".startswith(beginning[end - 2 : end]):
        raise BadPreamble("v1: the line does not end in CRLF")
    return end if end <= len(beginning) else 0


def _read_line(line: bytes) -> Preamble:
    _, protocol, *words = line[:-2].split(b" ")
    if protocol == b"UNKNOWN":  # whatever follows is to be ignored
        return Preamble(1, None, None)
    if len(words) != 4 or not all(words):
        raise BadPreamble(f"v1: expected two addresses and two ports, with single spaces, after {protocol.decode()}")
    source, destination, source_port, destination_port = words
    family = socket.AF_INET if protocol == b"TCP4" else socket.AF_INET6
    return Preamble(
        1,
        (_ip_address(family, source), _port(source_port)),
        (_ip_address(family, destination), _port(destination_port)),
    )


def _ip_address(family: socket.AddressFamily, text: bytes) -> str:
    """The address as v2 would have it, whose IPv6 addresses have one notation only."""
    try:
        address = socket.inet_ntop(family, socket.inet_pton(family, text.decode("ascii")))
    except (OSError, ValueError):  # ValueError: NUL, or not ASCII
        address = ""
    # some systems' inet_pton takes leading zeros
    if not address or (family == socket.AF_INET and address.encode() != text):
        raise BadPreamble(f"v1: not an IPv{4 if family == socket.AF_INET else 6} address: {ascii(text)[1:]}")
    return address


def _port(text: bytes) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise BadPreamble(f"v1: not a port: {ascii(text)[1:]}")
    return int(text)


# --- version 2 ---


def _end_of_block(beginning: bytes) -> int:
    size = len(beginning)
    if size > 12:
        version, command = divmod(beginning[12], 16)
        if version != 2:
            raise BadPreamble(f"v2: the version is {version}, not 2")
        if command > _PROXY:
            raise BadPreamble(f"v2: command {command} is neither LOCAL nor PROXY")
    if size > 13:
        family, transport = _family(beginning)
        if family > _UNIX:
            raise BadPreamble(f"v2: unknown address family {family}")
        if transport > _DGRAM:
            raise BadPreamble(f"v2: unknown transport protocol {transport}")
    if size < _HEADER:
        return 0
    length = int.from_bytes(beginning[14:16], "big")
    if _HEADER + length > MAX_SIZE:
        raise BadPreamble(f"v2: {_HEADER + length} bytes: expected at most {MAX_SIZE}")
    layout = _layout(beginning)
    if layout and length < layout.size:
        raise BadPreamble(f"v2: {length} bytes of addresses: expected at least {layout.size}")
    return _HEADER + length


def _family(block: bytes) -> tuple[int, int]:
    """Address family and transport protocol; with LOCAL they mean nothing."""
    return divmod(block[13], 16) if block[12] % 16 == _PROXY else (_UNSPEC, _UNSPEC)


def _layout(block: bytes) -> struct.Struct | None:
    """What the addresses look like; None: what follows the header is to be skipped.

    The addresses of datagrams are as good as those of a stream: the byte says how the client reached the proxy, not how
    the proxy reaches us, and a receiver may not refuse it (section 2.2).
    """
    family, transport = _family(block)
    return _LAYOUTS.get(family) if transport else None


def _read_block(block: bytes) -> Preamble:
    layout = _layout(block)
    if layout is None:  # where its TLVs would begin can't be told
        return Preamble(2, None, None)
    _check_vectors(block, _HEADER + layout.size)
    family, _ = _family(block)
    if family == _UNIX:
        source, destination = layout.unpack_from(block, _HEADER)
        return Preamble(2, _path(source), _path(destination))
    source, destination, source_port, destination_port = layout.unpack_from(block, _HEADER)
    kind = socket.AF_INET if family == _INET else socket.AF_INET6
    return Preamble(
        2,
        (socket.inet_ntop(kind, source), source_port),
        (socket.inet_ntop(kind, destination), destination_port),
    )


def _path(field: bytes) -> str:
    return os.fsdecode(field.split(b"\0", 1)[0])


def _check_vectors(block: bytes, position: int) -> None:
    """Raises BadPreamble unless TLVs fill the block from position on, and its checksum, if it has one, is right."""
    checksum = 0  # where it stands
    while position < len(block):
        value = position + _VECTOR.size
        if value > len(block):
            raise BadPreamble("v2: the last TLV is cut off")
        kind, length = _VECTOR.unpack_from(block, position)
        position = value + length
        if position > len(block):
            raise BadPreamble("v2: a TLV is longer than the rest of the preamble")
        if kind == _CRC32C:
            if length != 4:
                raise BadPreamble(f"v2: a CRC32c of {length} bytes, not 4")
            if checksum:
                raise BadPreamble("v2: more than one CRC32c")
            checksum = value
    if checksum:
        behind = checksum + 4
        found = crc32c(block[:checksum] + bytes(4) + block[behind:])
        # in network byte order, as HAProxy and AWS have it; SCTP, where the checksum is from, has it the other way
        if found.to_bytes(4, "big") != block[checksum:behind]:
            raise BadPreamble("v2: the CRC32c is wrong")


def crc32c(data: bytes) -> int:
    """CRC32c, Castagnoli's (RFC 4960 appendix B): the standard library has only the other one."""
    table = _crc32c_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
    """Made when a checksum is first asked for: most proxies send none."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # noqa: PLW2901
        table.append(crc)
    return tuple(table)
