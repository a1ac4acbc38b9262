"""Requests that differ from one to the next, as a proxy's do on one upstream connection: pools of them, from a seed.

Only random(), getrandbits() and what is made of them are asked of the generator: every Python makes the same bytes.
"""

import functools
import random
import struct
from collections.abc import Callable, Sequence

SEED = 20261130
"""Each pool begins anew with it."""

FIELDS = (8, 14)
"""Fewest and most fields of a request of `mix`, Host included."""

_AGENTS = (
    *(b"Mozilla/5.0 (X11; Linux x86_64; rv:%d.0) Gecko/20100101 Firefox/%d.0" % (each, each)
      for each in range(120, 145)),
    *(b"Mozilla/5.0 (iPhone; CPU iPhone OS 17_%d like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.%d "
      b"Mobile/15E148 Safari/604.1" % (each, each) for each in range(6)),
    *(b"curl/8.%d.0" % each for each in range(5, 12)), *(b"okhttp/4.%d.0" % each for each in range(3, 12)),
    b"python-requests/2.32.3", b"Go-http-client/1.1", b"axios/1.7.2", b"PostmanRuntime/7.39.0",
)  # fmt: skip
_PATHS = (
    b"/v1/users/%d", b"/v1/orders/%d/items", b"/api/items/%d/reviews?page=2", b"/search?q=%d", b"/static/app-%d.js",
    b"/v2/carts/%d",
)  # fmt: skip
_METHODS = (b"POST", b"POST", b"POST", b"PUT", b"PATCH")
_TYPES = (
    b"application/json", b"application/x-www-form-urlencoded", b"application/octet-stream",
    b"text/plain; charset=utf-8",
)  # fmt: skip
_ACCEPT = (
    b"*/*",
    b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    b"image/avif,image/webp,*/*;q=0.8",
)
"""Not application/json alone: a GET that wants it gets echoserver's description of it, and an echo of all peers."""
_LANGUAGES = (b"en-US,en;q=0.5", b"de-DE,de;q=0.9,en;q=0.8", b"fr", b"ja,en;q=0.7")
_LETTERS = bytes.maketrans(bytes(range(256)), b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_" * 4)


# --- parts ------------------------------------------------------------------------------------------------------------


def _letters(rng: random.Random, size: int) -> bytes:
    return rng.getrandbits(8 * size).to_bytes(size, "little").translate(_LETTERS)


def _hex(rng: random.Random, digits: int) -> bytes:
    return b"%0*x" % (digits, rng.getrandbits(4 * digits))


def _length(rng: random.Random, least: int, most: int) -> int:
    """Log-uniform: as many between 20 and 40 as between 400 and 800."""
    return int(least * ((most + 1) / least) ** rng.random())


def _path(rng: random.Random) -> bytes:
    return rng.choice(_PATHS) % rng.randrange(1_000_000)


def _json(rng: random.Random, size: int) -> bytes:
    """Of so many bytes, 11 or more."""
    return b'{"note":"%b"}' % _letters(rng, size - 11)


def _client(rng: random.Random) -> list[bytes]:
    """The fields that a proxy adds for a client, and the client's name."""
    address = b"%d.%d.%d.%d" % tuple(rng.randrange(1, 255) for _ in range(4))
    return [
        b"X-Real-IP: " + address, b"X-Forwarded-For: " + address, b"X-Forwarded-Proto: https",
        b"X-Request-Id: " + _hex(rng, 32), b"traceparent: 00-%b-%b-01" % (_hex(rng, 32), _hex(rng, 16)),
        b"User-Agent: " + rng.choice(_AGENTS),
    ]  # fmt: skip


_SOMETIMES: Sequence[tuple[float, Callable[[random.Random], bytes]]] = (
    (0.8, lambda rng: b"Accept: " + rng.choice(_ACCEPT)),
    (0.7, lambda _: b"Accept-Encoding: gzip, deflate, br"),
    (0.6, lambda rng: b"Accept-Language: " + rng.choice(_LANGUAGES)),
    (0.5, lambda rng: b"Cookie: session=%b; theme=dark" % _hex(rng, 32)),
    (0.3, lambda rng: b"Authorization: Bearer " + _letters(rng, 64)),
    (0.3, lambda rng: b"Referer: https://shop.example/%d" % rng.randrange(10_000)),
)
"""Fields that a client may send, with how often it does."""


def _request(line: bytes, fields: Sequence[bytes], content: bytes | None = None, kind: bytes = b"") -> bytes:
    head = [line + b" HTTP/1.1", b"Host: localhost"]
    if content is not None:
        head += [b"Content-Type: " + kind, b"Content-Length: %d" % len(content)]
    return b"\r\n".join([*head, *fields, b"", content or b""])


# --- requests ---------------------------------------------------------------------------------------------------------


def _proxied_fields(rng: random.Random, before: int) -> list[bytes]:
    """Drawn again until there are neither too few nor too many, with those before."""
    while True:
        fields = _client(rng) + [make(rng) for often, make in _SOMETIMES if rng.random() < often]
        if FIELDS[0] <= before + len(fields) <= FIELDS[1]:
            return fields


def _with_content(rng: random.Random) -> bytes:
    line = rng.choice(_METHODS) + b" " + _path(rng)
    kind, size = rng.choice(_TYPES), _length(rng, 16, 4000)
    content = _json(rng, size) if kind == b"application/json" else _letters(rng, size)
    return _request(line, _proxied_fields(rng, 3), content, kind)


def _mixed(rng: random.Random) -> bytes:
    """70 % GET. Their paths begin with /head: it is there that all peers answer with the header section."""
    if rng.random() < 0.7:
        return _request(b"GET /head" + _path(rng), _proxied_fields(rng, 1))
    return _with_content(rng)


def _of_one_client(rng: random.Random) -> bytes:
    fields = [b"User-Agent: axios/1.7.2", b"Accept: application/json", b"Accept-Encoding: gzip, deflate, br"]
    return _request(b"POST /v1/events", fields, _json(rng, _length(rng, 20, 1000)), b"application/json")


def _large_head(rng: random.Random) -> bytes:
    """Some 1,500 bytes, of which a cookie and a token are most."""
    fields = [
        *_client(rng), b"Cookie: session=%b; prefs=%b" % (_hex(rng, 32), _letters(rng, rng.randrange(470, 571))),
        b"Authorization: Bearer " + _letters(rng, rng.randrange(470, 571)),
    ]  # fmt: skip
    return _request(b"POST " + _path(rng), fields, _letters(rng, 64), b"application/octet-stream")


_POOLS: dict[str, tuple[int, Callable[[random.Random], bytes]]] = {
    "mix": (20_000, _mixed),
    "mixpost": (20_000, _with_content),
    "lengths": (20_000, _of_one_client),
    "big1500": (5_000, _large_head),
}


@functools.cache
def pool(name: str) -> tuple[bytes, ...]:
    """The requests of a load, in the order in which they are sent, again and again."""
    count, make = _POOLS[name]
    rng = random.Random(SEED)
    return tuple(make(rng) for _ in range(count))


def packed(requests: Sequence[bytes]) -> bytes:
    """As wrk's script reads them: each after its length, 4 bytes of which the least comes first."""
    return b"".join(struct.pack("<I", len(each)) + each for each in requests)
