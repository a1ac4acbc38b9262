"""HPACK, how HTTP/2 compresses header sections (RFC 7541): the decoder, and what of an encoder responses need.

A dynamic table is a value here: decoding a block makes another one, and never changes the one that it began with. So
connections whose clients say the same share their tables, and what a block means after a table can be remembered.
"""

from collections.abc import Callable
from typing import Any

from echoserver.config import compiled

Field = tuple[bytes, bytes, bytes, int, int]
"""Name, value, what whoever makes the fields has to say of the two, bytes and a number; and how many octets of a table
they take."""

Make = Callable[[bytes, bytes], Field]
"""Makes a field of its name and value, whatever they are; it is called once where the field is in a table."""

TABLE_SIZE = 4096
"""Octets of a dynamic table at most, as RFC 7541 section 4.1 counts them: the initial value of the setting."""
ENTRY = 32
"""Octets that an entry counts for besides its name and value."""

_REMEMBERED = 1024  # literal fields that are remembered
_REMEMBERED_SIZE = 256  # bytes of each at most, and octets of the entry that it is named after
_STEPS = 16 << 10  # steps of the Huffman decoder that are kept: a MiB
_MOST_DIGITS = 28  # bits of an integer: no length or index of a block that is read is larger

_STATIC: tuple[tuple[bytes, bytes], ...] = tuple(
    (name.encode(), value.encode())
    for name, value in (
        (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
        (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
        (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
        ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
        ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
        ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
        ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""),
        ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""),
        ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""),
        ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
        ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
        ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""),
        ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
    )
)  # fmt: skip
"""RFC 7541 appendix A, from index 1 on."""

_FIRST_DYNAMIC = len(_STATIC) + 1

_CODE: tuple[tuple[int, bytes], ...] = (
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b'!"()?'),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (22, b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9"),
    (23, b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf"
         b"\xc5\xe7\xef"),
    (24, b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (28, b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"
         b"\x7f\xdc\xf9"),
    (30, b"\n\r\x16"),
)  # fmt: skip
"""RFC 7541 appendix B: the symbols that have codes of so many bits, which count up from one symbol to the next.

The last code of 30 bits, all ones, is the end of the string, and is none of a string.
"""


class HpackError(Exception):
    """A block that can't be decoded; the table is lost with it, and so is the connection (COMPRESSION_ERROR)."""


class TooMuchError(Exception):
    """A block that comes to more than is decoded, whatever it says: many short references to what is long."""


class Table:
    """A dynamic table, as a value. entries: the newest last. size, limit: octets, as RFC 7541 section 4.1 counts.

    heads, whole: what whoever reads blocks remembers of those that came after this table, see http2_reader.py.
    """

    __slots__ = ("entries", "heads", "limit", "size", "whole")

    def __init__(self, entries: list[Field], size: int = 0, limit: int = TABLE_SIZE) -> None:
        self.entries = entries
        self.size = size
        self.limit = limit
        self.heads = self.whole = NOTHING


NOTHING: dict[bytes, tuple[Any, Table]] = {}
"""Where a table has nothing remembered."""


class _Huffman:
    """Decodes, a byte at a time: rows[node][byte] is the row to go on in, and the symbols that ended in that byte.

    A node is a beginning of a code, and its row is made as it is met, for most are not.
    """

    __slots__ = ("_leaves", "_made", "_root")

    def __init__(self) -> None:
        self._leaves: dict[tuple[int, int], int] = {}  # by length and code
        code = length = 0
        for bits, symbols in _CODE:
            code <<= bits - length
            length = bits
            for symbol in symbols:
                self._leaves[bits, code] = symbol
                code += 1
        self._begin()

    def _begin(self) -> None:
        self._made = 0
        self._root = _Row(0, 0)

    def decode(self, data: bytes) -> bytes:
        """The string that a Huffman code stands for. Raises HpackError."""
        if self._made > _STEPS:
            self._begin()
        row = self._root
        decoded = bytearray()
        for byte in data:
            step = row[byte]
            if step is None:
                step = self._step(row, byte)
            row, symbols = step
            decoded += symbols
        if not row.may_end:
            raise HpackError("the padding of a Huffman code must be less than a byte, and all ones")
        return bytes(decoded)

    def _step(self, row: "_Row", byte: int) -> "tuple[_Row, bytes]":
        length, code, symbols = row.length, row.code, bytearray()
        for bit in range(7, -1, -1):
            code = code << 1 | byte >> bit & 1
            length += 1
            symbol = self._leaves.get((length, code))
            if symbol is not None:
                symbols.append(symbol)
                length = code = 0
            elif length == 30:
                raise HpackError("a Huffman code must not have the symbol for the end of a string")
        following = self._root if not length else self._root.rows.get((length, code))
        if following is None:
            following = self._root.rows[length, code] = _Row(length, code)
        step = row[byte] = (following, bytes(symbols))
        self._made += 1
        return step


class _Row(list["tuple[_Row, bytes] | None"]):
    """The steps from one node. may_end: what has come of a code is padding (RFC 7541 section 5.2)."""

    __slots__ = ("code", "length", "may_end", "rows")

    def __init__(self, length: int, code: int) -> None:
        super().__init__([None] * 256)
        self.length = length
        self.code = code
        self.may_end = length < 8 and code == (1 << length) - 1
        self.rows: dict[tuple[int, int], _Row] = {}  # of the root: all others


huffman_in_python = _Huffman().decode
huffman_in_c: Callable[[bytes], bytes | None] | None = compiled.functions.huffman if compiled.functions else None
"""The same of `huffman.c`, where that was compiled; None where the code is wrong."""


def _checked(data: bytes) -> bytes:
    decoded = huffman_in_c(data) if huffman_in_c is not None else None
    return huffman_in_python(data) if decoded is None else decoded  # which says what is wrong


_Decoded = tuple[list[Field], list[Field] | None, int, int]
decode_in_c: Callable[..., _Decoded | None] | None = compiled.functions.decode_block if compiled.functions else None
"""What of Decoder.decode() is in `hpack.c`; None where the block is wrong."""

_huffman = huffman_in_python if huffman_in_c is None else _checked


class Decoder:
    """Decodes the blocks of connections whose fields are made alike. root: the table that each of them begins with."""

    __slots__ = ("_known", "_lines", "_make", "_static", "root")

    def __init__(self, make: Make, lines: dict[bytes, int] | None = None) -> None:
        """lines: by name, the numbers of fields that need not be made: what is said of them is a line, name: value."""
        self._make = make
        self._lines = {} if lines is None else lines
        self._static = (make(b"", b""), *(make(name, value) for name, value in _STATIC))
        self._known: dict[tuple[Field | None, bytes], Field] = {}
        self.root = Table([])

    def decode(self, block: bytes, table: Table, most: int, most_fields: int) -> tuple[list[Field], Table]:
        """The fields of a block, and the table after it. Raises HpackError, or TooMuchError.

        most: octets that the fields may come to, as an entry of a table does; most_fields: how many there may be.
        """
        if decode_in_c is None:
            return self.decode_in_python(block, table, most, most_fields)
        found = decode_in_c(
            block, table.entries, table.size, table.limit, self._static, self._lines, self._make, most, most_fields
        )
        if found is None:  # Python says what is wrong with it
            return self.decode_in_python(block, table, most, most_fields)
        fields, entries, size, limit = found
        return fields, table if entries is None else Table(entries, size, limit)

    def decode_in_python(  # noqa: PLR0912, PLR0915 - a call takes as long as a field
        self, block: bytes, table: Table, most: int, most_fields: int
    ) -> tuple[list[Field], Table]:
        """The same."""
        fields: list[Field] = []
        static, entries = self._static, table.entries
        position, end, total = 0, len(block), 0
        limit, size, own, gone = table.limit, table.size, False, 0
        try:
            while position < end:
                first = block[position]
                position += 1
                if first >= 0x80:  # RFC 7541 section 6.1: an indexed field
                    index = first & 0x7F
                    if index == 0x7F:
                        index, position = _integer(block, position, index)
                elif first & 0xE0 == 0x20:  # section 6.3: another size of the table
                    if fields:
                        raise HpackError("the table's size must be changed before the first field only")
                    limit = first & 0x1F
                    if limit == 0x1F:
                        limit, position = _integer(block, position, limit)
                    if limit > TABLE_SIZE:
                        raise HpackError(f"the table must not be larger than {TABLE_SIZE} octets")
                    if not own:
                        entries, own = entries.copy(), True
                    while size > limit:
                        size -= entries[gone][4]
                        gone += 1
                    continue
                else:  # section 6.2: a literal field, with or without indexing
                    prefix = 0x3F if first >= 0x40 else 0x0F
                    index = first & prefix
                    if index == prefix:
                        index, position = _integer(block, position, index)
                if not index:
                    named = None
                elif index < _FIRST_DYNAMIC:
                    named = static[index]
                elif index - _FIRST_DYNAMIC < len(entries) - gone:
                    named = entries[_FIRST_DYNAMIC - 1 - index]
                else:
                    raise HpackError(f"there is no field at index {index}")
                if first < 0x80:
                    if first < 0x40:  # what is put into no table may come again, as it is
                        begin = position
                        if named is None:
                            position = _end_of_string(block, position)
                        position = _end_of_string(block, position)
                        if position > end:
                            raise HpackError("the block ends within a string")
                        field = self._known.get((named, block[begin:position])) or self._remember(
                            named, block[begin:position]
                        )
                    else:
                        if named is None:
                            name, position = _string(block, position)
                        else:
                            name = named[0]
                        length = block[position]
                        position += 1
                        raw = length & 0x7F
                        if raw == 0x7F:
                            raw, position = _integer(block, position, raw)
                        value = block[position : position + raw]
                        position += raw
                        if position > end:
                            raise HpackError("the block ends within a string")
                        field = self._make(name, _huffman(value) if length & 0x80 else value)
                        if not own:
                            entries, own = entries.copy(), True
                        entries.append(field)
                        size += field[4]
                        while size > limit:
                            size -= entries[gone][4]
                            gone += 1
                elif named is None:
                    raise HpackError("there is no field at index 0")
                else:
                    field = named
                fields.append(field)
                total += field[4]
                if total > most or len(fields) > most_fields:
                    raise TooMuchError
        except IndexError:
            raise HpackError("the block ends within a field") from None
        if not own:
            return fields, table
        return fields, Table(entries[gone:] if gone else entries, size, limit)

    def _remember(self, named: Field | None, rest: bytes) -> Field:
        """Make a literal field, and remember it by what it is named after and the strings."""
        position = 0
        if named is None:
            name, position = _string(rest, 0)
        else:
            name = named[0]
        value, _ = _string(rest, position)
        field = self._make(name, value)
        if len(rest) <= _REMEMBERED_SIZE and (named is None or named[4] <= _REMEMBERED_SIZE):
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[named, rest] = field
        return field


def _integer(data: bytes, position: int, prefix: int) -> tuple[int, int]:
    """RFC 7541 section 5.1: an integer that its prefix is too short for, and where it ends. May raise IndexError."""
    value, shift = prefix, 0
    while True:
        byte = data[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift >= _MOST_DIGITS:
            raise HpackError("an integer has too many digits")


def _end_of_string(block: bytes, position: int) -> int:
    """Where a string ends that begins at a position."""
    length = block[position] & 0x7F
    position += 1
    if length == 0x7F:
        length, position = _integer(block, position, 0x7F)
    return position + length


def _string(data: bytes, position: int) -> tuple[bytes, int]:
    """RFC 7541 section 5.2: a string, and where it ends."""
    first = data[position]
    length, position = first & 0x7F, position + 1
    if length == 0x7F:
        length, position = _integer(data, position, length)
    end = position + length
    raw = data[position:end]
    return (_huffman(raw) if first & 0x80 else raw), end


# --- the encoder: nothing is put into the client's table, so that a block is the same for everybody -----------------

_INDEX = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC, 1)))}
_STATUS = {value: bytes((0x80 | index,)) for index, (name, value) in enumerate(_STATIC, 1) if name == b":status"}


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """RFC 7541 section 5.1: an integer behind a prefix; first: what else is in the byte that it begins in."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    encoded = bytearray((first | most,))
    value -= most
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that is put into no table (RFC 7541 section 6.2.2); the name in lower case."""
    index = _INDEX.get(name)
    named = integer(index, 4) if index is not None else b"\0" + integer(len(name), 7) + name
    return named + integer(len(value), 7) + value


def status(code: bytes) -> bytes:
    """The field :status."""
    return _STATUS.get(code) or literal(b":status", code)


def lines(text: bytes) -> bytes:
    """The fields of lines, each with the CRLF behind it."""
    encoded = []
    for line in text.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            encoded.append(literal(name.lower(), value.strip(b" \t")))
    return b"".join(encoded)
