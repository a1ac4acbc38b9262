"""Load as users make it: HTTP and raw TCP users who pause, come and go, and compare what comes back byte for byte.

This is for behaviour: what a load balancer, a proxy or a mesh in front of echoserver does to many different users at
once, for hours, from several machines, with charts. It is *not* for the server's limit: locust saturates first. On one
core of a shared machine, with 50 users of 64 B that never pause, a locust process made at most 3,300 HTTP or 11,000 TCP
exchanges a second, wrk with 50 connections 37,000 POSTs. An HTTP exchange costs locust 0.3 ms of CPU, a TCP one 0.08;
both wrk and the server take 0.01. What a request costs the server is what ``python -m bench compare`` is for.

It needs the extra bench (``pip install -e '.[bench]'``), and goes to a server with default options on this machine
where --host says nothing else. These commands were run as they stand, in the root of a checkout.

Headless; the exit code is 1 if any echo was wrong, or did not come within ten seconds::

    python -m locust -f bench/locustfile.py --headless -u 50 -r 50 -t 10s

With the page on http://127.0.0.1:8089, where the options below can be changed from run to run::

    python -m locust -f bench/locustfile.py --web-host 127.0.0.1

With several processes (--processes -1: one a core)::

    python -m locust -f bench/locustfile.py --headless -u 100 -r 100 -t 10s --processes 4

From several machines: the first command, with --host, on one of them; the second on each of the others, with the first
one's address. Workers do as the master is told, and options of their own count for nothing::

    python -m locust -f bench/locustfile.py --headless -u 100 -r 100 -t 10s --master --expect-workers 2
    python -m locust -f bench/locustfile.py --worker --master-host 127.0.0.1

Besides locust's own options there are these, which its --help does not show. Each can be set in the environment too, as
LOCUST_PAYLOAD and so on.

--host URL            where HTTP users go: http://127.0.0.1:8080
--tcp-host HOST:PORT  where TCP users go: port 8007 of the host in --host
--payload SIZES       what they send, with weights: 64:10,4KiB:4,64KiB:1
--wait TIME           how long they pause after each exchange, as in 0, 1s, or anything between two: 100ms-1s
--mix USERS           what kinds of users there are, with weights: http=8,tcp=2; who is not named stays away

A user sends all of a payload, then reads. So a payload may not be longer than what the server by default keeps for a
client that does not read (--buffer-limit).
"""

import functools
import random
import re
import socket
import time
import uuid
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import flask
from locust import FastHttpUser, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import CatchResponseError
from locust.web import WebUI

from echoserver.config import values
from echoserver.config.values import ConfigError

TIMEOUT = 10.0
"""Seconds that a user waits to be connected, to be rid of a payload, or for the next bytes of an echo."""

MOST = 16 << 20
"""The longest payload in bytes, the default of the server's --buffer-limit."""

Thing = TypeVar("Thing")


# --- the types of the options -----------------------------------------------------------------------------------------
# Their values stay texts: locust sends them to workers with msgpack, and its page puts texts in their place.


def payload(text: str) -> dict[int, int]:
    """``64,4KiB``, or with weights ``64:10,4KiB:1``, as weights by size in bytes."""

    def size(text: str) -> int:
        value = values.size(text)
        if not 1 <= value <= MOST:
            raise ConfigError(f"{text!r} can't be sent: expected 1 byte to 16MiB")
        return value

    return _weights(text, ":", size)


def wait(text: str) -> tuple[float, float]:
    """``1s``, or ``100ms-1s``, as the least and the most seconds."""
    first, dash, last = text.partition("-")
    least, most = values.duration(first), values.duration(last if dash else first)
    if least > most:
        raise ConfigError(f"{text!r} is no range: expected the shorter time first, as in 100ms-1s")
    return least, most


def mix(text: str) -> dict[str, int]:
    """``http=8,tcp=2`` as weights by protocol."""

    def protocol(text: str) -> str:
        if text not in ("http", "tcp"):
            raise ConfigError(f"{text!r} is no kind of user: expected http or tcp, as in http=8,tcp=2")
        return text

    return _weights(text, "=", protocol)


def tcp_host(text: str) -> tuple[str, int] | None:
    """``HOST:PORT``; nothing is None."""
    if not text:
        return None
    address = values.address(text)
    if address is None or not address.host or not address.port:
        raise ConfigError(f"{text!r} is no address to connect to: expected HOST:PORT, as in 127.0.0.1:8007")
    return address.host, address.port


def _weights(text: str, sign: str, parse: Callable[[str], Thing]) -> dict[Thing, int]:
    """``thing,thing`` with weights after a sign (none: 1)."""
    weights: dict[Thing, int] = {}
    for part in text.split(","):
        thing, given, weight = part.strip().partition(sign)
        if given and not re.fullmatch("[0-9]{1,9}", weight):
            raise ConfigError(f"{weight!r} is not a weight: expected a whole number, 0 for none")
        weights[parse(thing)] = int(weight) if given else 1
    if not any(weights.values()):
        raise ConfigError(f"{text!r} leaves nothing: expected a weight above 0")
    return weights


OPTIONS: dict[str, tuple[Callable[[str], object], str, str]] = {
    "payload": (payload, "64:10,4KiB:4,64KiB:1", "sizes to send, with weights: 64:10,64KiB:1"),
    "wait": (wait, "100ms-1s", "pause after each exchange: 0, 1s, or from-to as in 100ms-1s"),
    "mix": (mix, "http=8,tcp=2", "weights of the kinds of users; who is not named stays away"),
    "tcp_host": (tcp_host, "", "HOST:PORT for TCP users (default: port 8007 of the host's)"),
}


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser, **_: object) -> None:
    """Add the options to locust's command line, environment and page."""

    def checked(parse: Callable[[str], object]) -> Callable[[str], str]:
        def check(text: str) -> str:
            try:
                parse(text)
            except ConfigError as error:
                raise ArgumentTypeError(str(error)) from None
            return text

        return check

    for name, (parse, default, text) in OPTIONS.items():
        parser.add_argument(  # in no group: the page has only what is in none
            "--" + name.replace("_", "-"), type=checked(parse), default=default, help=text,
            env_var="LOCUST_" + name.upper(),
        )  # fmt: skip


@events.init.add_listener  # type: ignore[untyped-decorator]
def check_page(web_ui: WebUI | None, **_: object) -> None:
    """Let the page say what is wrong with a value: what is put in there does not go through the parser."""
    if web_ui is None:
        return
    assert web_ui.app is not None

    @web_ui.app.before_request
    def check() -> flask.Response | None:
        for name, (parse, _, _) in OPTIONS.items():
            try:
                if name in flask.request.form:
                    parse(flask.request.form[name])
            except ConfigError as error:
                return flask.jsonify({"success": False, "message": f"{name}: {error}"})
        return None


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def set_mix(environment: Environment, **_: object) -> None:
    """Weigh the kinds of users; only what a master, or a process alone, is told counts for that."""
    assert environment.parsed_options is not None
    weights = mix(environment.parsed_options.mix)
    for each in environment.user_classes:
        if issubclass(each, EchoUser):
            each.weight = weights.get(each.protocol, 0)


# --- what is sent, and what must come back ----------------------------------------------------------------------------


class Traffic:
    """What users send and how long they pause, as the options say."""

    SPARE = 1 << 16

    def __init__(self, sizes: str, pause: str) -> None:
        weights = payload(sizes)
        self._sizes, self._weights = list(weights), list(weights.values())
        self._pause = wait(pause)
        self._block = random.randbytes(max(weights) + self.SPARE)

    def content(self) -> bytes:
        """Bytes that are hardly ever the same twice: so the echo of another request is known as such."""
        (size,) = random.choices(self._sizes, self._weights)
        start = random.randrange(self.SPARE)
        return self._block[start : start + size]

    def pause(self) -> float:
        return random.uniform(*self._pause)


@functools.lru_cache(maxsize=1)
def shared_traffic(sizes: str, pause: str) -> Traffic:
    """The traffic that all users of a process share."""
    return Traffic(sizes, pause)


def size_name(size: int) -> str:
    """A size as the statistics name it: 64 B, 4 KiB."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def mismatch(sent: bytes, came: bytes) -> str | None:
    """What is wrong with an echo, None if nothing is. The texts are few: locust counts failures by them."""
    if came == sent:
        return None
    if len(came) != len(sent):
        return f"mismatch: more or fewer bytes came back than the {len(sent)} that were sent"
    return f"mismatch: {len(sent)} bytes came back, but not those that were sent"


def missing(path: str, fields: dict[str, str], section: bytes) -> str | None:
    """What a header section that came back lacks, None if nothing. It may have more, and names in another case."""
    first, *lines = section.decode("latin-1").split("\r\n")
    came = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not (first.startswith("GET ") and f"{path} HTTP/" in first):
        return "mismatch: another request line came back"
    lost = [name for name, value in fields.items() if came.get(name.lower()) != value]
    return f"mismatch: changed, or did not come back: {', '.join(lost)}" if lost else None


# --- the users --------------------------------------------------------------------------------------------------------

BROWSER = {
    "Cache-Control": "max-age=0",
    "sec-ch-ua": '"Chromium";v="140", "Not=A?Brand";v="24"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Cookie": "session=9f1c2b7e4d; theme=dark; consent=yes",
}
"""The fields of a browser's request."""


PATHS = ("/", "/index.html", "/search?q=echo&page=2", "/users/7/orders", "/static/app.js")
"""What is asked for; few, because locust's own failures have the URL in them and are counted by their text."""


def no_delay(connection: socket.socket) -> None:
    """Send what is written at once."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class EchoUser(User):
    """What all echo users have: the traffic, and the pause after each exchange."""

    abstract = True
    host = "http://127.0.0.1:8080"
    protocol: ClassVar[str]

    def traffic(self) -> Traffic:
        options = self.environment.parsed_options
        return shared_traffic(options.payload, options.wait)

    def wait_time(self) -> float:
        return self.traffic().pause()


class HttpEchoUser(EchoUser, FastHttpUser):
    """Keeps a connection, and out of 20 times does

    8 times a POST of a payload, as a program does it,
    4 times a POST of a payload with a browser's fields, as a form,
    2 times a POST of a payload in chunks,
    5 times a GET with a browser's fields and one that is new each time, and
    1 time the same with ``Connection: close``; what comes next goes over a new connection.
    """

    protocol = "http"
    connection_timeout = network_timeout = TIMEOUT

    def on_start(self) -> None:
        self.client.base_url = (self.client.base_url or "").rstrip("/")
        # geventhttpclient 2.6 leaves Nagle's algorithm on: a chunk would wait 40 ms for the delayed acknowledgement of
        # the header section. after_connect() is its hook for such things, but locust makes the pool.
        pool = self.client.client.clientpool.get_client(self.client.base_url)._connection_pool
        pool.after_connect = no_delay  # type: ignore[assignment]

    @task(8)
    def post(self) -> None:
        self._post("", "application/octet-stream", {})

    @task(4)
    def submit(self) -> None:
        self._post(", browser's fields", "application/x-www-form-urlencoded", BROWSER)

    @task(2)
    def upload(self) -> None:
        self._post(", chunked", "text/plain; charset=utf-8", {"Transfer-Encoding": "chunked"})

    @task(5)
    def get(self) -> None:
        self._get("header section", {})

    @task(1)
    def leave(self) -> None:
        self._get("header section, then close", {"Connection": "close"})

    def _post(self, how: str, content_type: str, fields: dict[str, str]) -> None:
        content = self.traffic().content()
        with self.client.post(
            "/", name=size_name(len(content)) + how, catch_response=True, allow_redirects=False,
            headers={**fields, "Content-Type": content_type},
            data=content,  # type: ignore[arg-type]  # locust 2.47 declares str; bytes are sent as they are
        ) as response:  # fmt: skip
            judge(response, content_type, functools.partial(mismatch, content))

    def _get(self, name: str, hop: dict[str, str]) -> None:
        path = random.choice(PATHS)
        fields = {**BROWSER, "X-Request-Id": uuid.uuid4().hex}
        with self.client.get(
            path, name=name, catch_response=True, allow_redirects=False, headers={**fields, **hop}
        ) as response:
            judge(response, "text/plain", functools.partial(missing, path, fields))


def judge(response: Any, content_type: str, fault: Callable[[bytes], str | None]) -> None:
    """Mark a response as failed unless it is 200, of that Content-Type, and no fault is found with its content.

    It is a ResponseContextManager, whose methods have no types (locust 2.47).
    """
    if response.request_meta["exception"]:  # none came, or 400 and above: locust marks it
        return
    came = response.headers.get("Content-Type")
    if response.status_code != 200:
        response.failure(f"status {response.status_code}, expected 200")
    elif found := fault(response.content):
        response.failure(found)
    elif came != content_type:
        response.failure(f"mismatch: Content-Type {came!r}, expected {content_type!r}")


class TcpEchoUser(EchoUser):
    """Keeps a connection, and out of 10 times does

    9 times send a payload and read it, and
    1 time send FIN after it too, and read until the server's. What comes next goes over a new connection.

    So it does after every failure.
    """

    protocol = "tcp"
    _connection: socket.socket | None = None

    @task(9)
    def echo(self) -> None:
        self._exchange()

    @task(1)
    def leave(self) -> None:
        self._exchange(fin=True)

    def on_stop(self) -> None:
        self._disconnect()

    def _exchange(self, *, fin: bool = False) -> None:
        content = self.traffic().content()
        came, failure = b"", None
        began, start = time.time(), time.perf_counter()
        try:
            came = self._ask(content, fin=fin)
            if found := mismatch(content, came):
                raise CatchResponseError(found)
        except (OSError, CatchResponseError) as error:
            failure = error
        spent = time.perf_counter() - start
        if failure or fin:
            self._disconnect()
        self.environment.events.request.fire(
            request_type="TCP", name=size_name(len(content)) + (", then FIN" if fin else ""), start_time=began,
            response_time=1000 * spent, response_length=len(came), exception=failure, response=None, context={},
        )  # fmt: skip

    def _ask(self, content: bytes, *, fin: bool) -> bytes:
        """What comes back: as many bytes as were sent; with fin one more would be read too, before the server's FIN."""
        if self._connection is None:
            self._connection = socket.create_connection(self._address(), TIMEOUT)
            no_delay(self._connection)
        self._connection.sendall(content)
        if fin:
            self._connection.shutdown(socket.SHUT_WR)
        came = bytearray()
        while len(came) < len(content) + fin and (part := self._connection.recv(1 << 16)):
            came += part
        if len(came) < len(content):
            raise ConnectionError("the connection ended before all had come back")
        return bytes(came)

    def _address(self) -> tuple[str, int]:
        return tcp_host(self.environment.parsed_options.tcp_host) or (urlsplit(self.host).hostname or "", 8007)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
