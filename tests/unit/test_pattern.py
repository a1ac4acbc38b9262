"""The character generator's pattern (RFC 864)."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echoserver.answers.pattern import PATTERN, pattern


def test_as_the_rfc_shows_it() -> None:
    lines = PATTERN.split(b"\r\n")
    assert lines.pop() == b""
    assert lines[0] == rb""" !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefg"""
    assert lines[1] == rb"""!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh"""
    assert lines[94].startswith(rb"""~ !"#$""")
    assert len(lines) == 95
    printing = sorted(set(string.printable) - set("\t\n\r\x0b\x0c"))
    ring = "".join(printing * 2)
    assert [line.decode() for line in lines] == [ring[first : first + 72] for first in range(95)]


@pytest.mark.parametrize("size", [0, 1, 74, len(PATTERN), 3 * len(PATTERN)])
def test_from_the_beginning(size: int) -> None:
    assert pattern(size) == (PATTERN * 4)[:size]


@given(st.integers(0, 40_000), st.integers(0, 1 << 70))
def test_from_anywhere(size: int, offset: int) -> None:
    start = offset % len(PATTERN)
    assert pattern(size, offset) == (PATTERN * 7)[start : start + size]
