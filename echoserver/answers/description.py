"""A request in, JSON out that says all that is known of it (?echo=json)."""

import base64
import json
import math
import time
from collections.abc import Mapping
from typing import Any

from echoserver.answers.controls import parameters

MOST = 64 << 10
"""Bytes of content up to which it is part of its description; of more only the length and the digest are.

To describe more would keep other connections waiting: JSON takes 37 ms for a MiB of control characters.
"""

_PAIRS = ("fields", "parameters")
_json = json.JSONEncoder(ensure_ascii=False).encode


def text_of(value: bytes) -> str:
    """What a field or target says: UTF-8 where it is that, else ISO 8859-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class Content:
    """Content as it comes, as far as its description needs it."""

    __slots__ = ("_digest", "_kept", "length")

    length: int
    """Bytes so far."""

    def __init__(self) -> None:
        import hashlib  # noqa: PLC0415 - 0.5 MB that few want

        self.length = 0
        self._digest = hashlib.sha256()
        self._kept: bytearray | None = bytearray()

    @property
    def kept(self) -> int:
        """Bytes that are kept of it."""
        return len(self._kept or b"")

    def add(self, data: bytes) -> None:
        """More of it."""
        self.length += len(data)
        self._digest.update(data)
        if self.length > MOST:
            self.forget()
        elif self._kept is not None:
            self._kept += data

    def forget(self) -> None:
        """It is too much to be kept."""
        self._kept = None

    def described(self) -> dict[str, Any]:
        """Its length and digest, and itself: as text where it is UTF-8, else in base64."""
        said: dict[str, Any] = {"length": self.length, "sha256": self._digest.hexdigest()}
        if self._kept is not None:
            try:
                said["text"] = self._kept.decode()
            except UnicodeDecodeError:
                said["base64"] = base64.b64encode(self._kept).decode()
        return said


def describe(head: bytes, content: Content | None, connection: Mapping[str, Any]) -> bytes:
    """The description of a request with this header section, and what is known of its connection and the server."""
    line, _, section = head[:-4].partition(b"\r\n")
    method, target, version = line.split(b" ")
    path, mark, query = target.partition(b"?")
    fields = (each.partition(b":") for each in section.split(b"\r\n") if each)
    said = {
        "method": method.decode(),
        "target": text_of(target),
        "path": text_of(path),
        "query": text_of(query) if mark else None,
        "parameters": [[text_of(name), text_of(value)] for name, value in parameters(query)],
        "version": version.decode(),
        "fields": [[name.decode(), text_of(value.strip(b" \t"))] for name, _, value in fields],
        "content": content.described() if content is not None and content.length else None,
        **connection,
    }
    lines = ",\n".join(
        f"  {_json(name)}: {_pairs(value) if value and name in _PAIRS else _json(value)}"
        for name, value in said.items()
    )
    return f"{{\n{lines}\n}}\n".encode("utf-8", "replace")


def _pairs(pairs: list[list[str]]) -> str:
    """One a line, for a person to read."""
    return "[\n{}\n  ]".format(",\n".join(f"    {_json(pair)}" for pair in pairs))


def moment(seconds: float) -> str:
    """A time since the epoch, as RFC 3339 writes it in UTC, with microseconds."""
    fraction, whole = math.modf(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(fraction * 1e6):06d}Z"
