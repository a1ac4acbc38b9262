"""A request as JSON: nothing of it is lost, and whatever it holds it is JSON."""

import base64
import hashlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echoserver.answers.description import MOST, Content, describe, moment
from echoserver.wire import request as messages
from echoserver.wire.response import HttpError
from tests.unit.examples import examples

HEAD = (
    b"PATCH /a%20b/\xff?c=d+e&f&c=%2B HTTP/1.1\r\nHost: x\r\n"
    b"X-A: 1\r\nx-a:  2 \t\r\nX-Utf: \xc3\xa9\r\nX-Raw: \xe9\r\n\r\n"
)


def described(head: bytes, content: Content | None = None, connection: dict[str, Any] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(describe(head, content, connection or {}))
    return made


def content_of(*pieces: bytes) -> Content:
    content = Content()
    for piece in pieces:
        content.add(piece)
    return content


def test_all_of_a_request() -> None:
    assert described(HEAD, None, {"worker": 3}) == {
        "method": "PATCH",
        "target": "/a%20b/ÿ?c=d+e&f&c=%2B",
        "path": "/a%20b/ÿ",
        "query": "c=d+e&f&c=%2B",
        "parameters": [["c", "d e"], ["f", ""], ["c", "+"]],
        "version": "HTTP/1.1",
        "fields": [["Host", "x"], ["X-A", "1"], ["x-a", "2"], ["X-Utf", "é"], ["X-Raw", "é"]],
        "content": None,
        "worker": 3,
    }


def test_a_request_without_a_query() -> None:
    made = described(b"GET / HTTP/1.0\r\n\r\n")
    assert (made["query"], made["parameters"], made["fields"], made["version"]) == (None, [], [], "HTTP/1.0")
    assert described(b"GET /? HTTP/1.0\r\n\r\n")["query"] == ""


def test_it_is_written_for_people_too() -> None:
    lines = describe(b"GET /?a=1 HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n", None, {}).decode().splitlines()
    assert lines[5:7] == ['  "parameters": [', '    ["a", "1"]']
    assert lines[9:12] == ['  "fields": [', '    ["Host", "x"],', '    ["A", "b"]']


def test_content_of_no_bytes_is_none() -> None:
    assert described(HEAD, content_of())["content"] is None


@pytest.mark.parametrize("content", [b"t", b"text", "héllo\n\0".encode(), b'"\\', bytes(range(256)), b"\xc3"])
def test_content(content: bytes) -> None:
    made = described(HEAD, content_of(content[:1], content[1:]))["content"]
    assert (made["length"], made["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    if "text" in made:
        assert made["text"].encode() == content
        assert "base64" not in made
    else:
        assert base64.b64decode(made["base64"]) == content
        with pytest.raises(UnicodeDecodeError):
            content.decode()


def test_long_content_is_left_out() -> None:
    whole = content_of(bytes(MOST))
    assert (whole.kept, described(HEAD, whole)["content"]["text"]) == (MOST, "\0" * MOST)
    longer = content_of(bytes(MOST), b"1")
    digest = hashlib.sha256(bytes(MOST) + b"1").hexdigest()
    assert described(HEAD, longer)["content"] == {"length": MOST + 1, "sha256": digest}
    assert longer.kept == 0


def test_forgotten_content_is_left_out() -> None:
    content = content_of(b"a")
    content.forget()
    content.add(b"b")
    assert described(HEAD, content)["content"] == {"length": 2, "sha256": hashlib.sha256(b"ab").hexdigest()}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1700000000.25, "2023-11-14T22:13:20.250000Z"),
        (1.9999999, "1970-01-01T00:00:01.999999Z"),
    ],
)
def test_moment(seconds: float, expected: str) -> None:
    assert moment(seconds) == expected


TEXT = st.binary(max_size=8).map(lambda each: re.sub(rb"[\x00-\x20\x7f]", b"?", each))


@examples(1000)
@given(target=TEXT, names=st.lists(st.sampled_from([b"A", b"a", b"X-Y"]), max_size=4), value=TEXT)
def test_whatever_can_be_read_can_be_described(target: bytes, names: list[bytes], value: bytes) -> None:
    head = b"GET /%b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (
        target,
        b"".join(b"%b: %b\r\n" % (name, value) for name in names),
    )
    try:
        messages.read(head)
    except HttpError:
        return
    made = described(head)
    assert [name for name, _ in made["fields"]] == ["Host", *(name.decode() for name in names)]
    assert made["target"].encode("utf-8") in (b"/" + target, (b"/" + target).decode("latin-1").encode())
