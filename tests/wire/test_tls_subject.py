"""Subjects of certificates as RFC 4514 writes them: printable ASCII, and what another parser reads is what it was.

Modules: layers.tls_context.
"""

import re

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from echoserver.layers.tls_context import subject

ENCODABLE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def named(*names: tuple[tuple[str, str], ...]) -> bytes:
    return subject({"subject": names})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a b", b"a b"), ("a,b", rb"a\,b"), ('"+;<>\\', rb"\"\+\;\<\>\\"), (" a ", rb"\ a\ "), ("#a#", rb"\#a#"),
        (" ", rb"\ "), ("  ", rb"\ \ "), ("\u00fc", rb"\C3\BC"), ("a\r\nX: y\0", rb"a\0D\0AX: y\00"), ("a=b", b"a=b"),
        ("\U0001f600", rb"\F0\9F\98\80"), ("\x7f", rb"\7F"),
    ],
)  # fmt: skip
def test_values(value: str, written: bytes) -> None:
    assert named((("commonName", value),)) == b"CN=" + written


def test_names_come_last_first() -> None:
    names = (("countryName", "DE"),), (("organizationName", "o"), ("userId", "u")), (("1.2.3.4", "x"),)
    assert named(*names) == b"1.2.3.4=x,O=o+UID=u,C=DE"
    assert subject({}) == b""


@given(st.lists(st.lists(st.tuples(st.sampled_from(["commonName", "emailAddress", "1.2.3"]), st.text()))))
def test_it_is_printable_ascii(names: list[list[tuple[str, str]]]) -> None:
    assert re.fullmatch(rb"[ -~]*", named(*map(tuple, names)))


@given(st.lists(ENCODABLE, min_size=1, max_size=4))
def test_another_parser_reads_the_same(values: list[str]) -> None:
    parsed = x509.Name.from_rfc4514_string(named(*((("organizationName", value),) for value in values)).decode())
    assert [attribute.value for attribute in parsed] == values
