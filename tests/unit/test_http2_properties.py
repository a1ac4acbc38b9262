"""HTTP/2 with hyper's h2 as the client: any requests, torn anywhere, in any windows. And valid bytes made invalid.

Modules: protocols.http2.connection, protocols.http2.stream, wire.http2_reader.
"""

import asyncio
import dataclasses
import random
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import example, given
from hypothesis import strategies as st

from echoserver.answers.pattern import pattern
from tests.unit.cutting import in_pieces
from tests.unit.examples import examples
from tests.unit.http2_peer import (
    BEGIN,
    CANCEL,
    CONTINUATION,
    END_HEADERS,
    INITIAL_WINDOW_SIZE,
    PONG,
    PREFACE,
    PRIORITY,
    Peer,
    block,
    connected,
    data,
    fields,
    frame,
    get,
    headers,
    ping,
    post,
    rst,
    settings,
    whole,
    window_update,
)  # fmt: skip
from tests.unit.transport import make, sweep

RANDOM = random.Random(7541).randbytes(1 << 16) * 2


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request, and what its client does beside it."""

    method: str = "POST"
    path: str = "/"
    size: int = 0
    piece: int = 16384
    declared: bool = False
    trailers: bool = False
    padding: int | None = None
    priority: int = 0

    @property
    def content(self) -> bytes:
        return RANDOM[self.size % 1000 :][: self.size]

    def fields(self, number: int) -> list[tuple[str, str]]:
        made = [(":method", self.method), (":scheme", "http"), (":authority", "x"), (":path", self.path)]
        if self.has_content and self.declared:
            made.append(("content-length", str(self.size)))
        return [*made, ("x-number", str(number))]

    @property
    def has_content(self) -> bool:
        return self.method in ("POST", "PUT", "HEAD") and self.size >= 0

    def answer(self, number: int) -> tuple[int, bytes, bool]:
        """The status, the content, and whether the trailers come back."""
        status = 201 if "status=201" in self.path else 200
        if self.method == "HEAD":
            return status, b"", False
        if "size=" in self.path:
            return status, pattern(int(self.path.rpartition("size=")[2])), False
        if self.has_content:
            return status, self.content, self.trailers and self.path in ("/", "/a?b=c")
        return status, f"{self.method} {self.path} HTTP/2\r\nhost: x\r\nx-number: {number}\r\n\r\n".encode(), False


sizes = st.one_of(st.integers(0, 20), st.integers(0, 50_000))
paths = st.sampled_from(
    ["/", "/", "/a?b=c", "/?delay=1ms", "/?status=201", "/?size=5", "/?size=70000", "/?delay=1ms&size=9"]
)
requests = st.builds(
    Asked,
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE"]),
    path=paths,
    size=sizes,
    piece=st.sampled_from([1, 7, 100, 5000, 16384]),
    declared=st.booleans(),
    trailers=st.booleans(),
    padding=st.sampled_from([None, None, 0, 255]),
    priority=st.integers(0, 2),
).map(
    lambda each: dataclasses.replace(
        each,
        size=min(each.size, 200 * each.piece),
        trailers=each.trailers and each.method != "HEAD",  # h2 4.4.1 takes the method from the last fields it sent
    )
)


class Client:
    """Of hyper's, over a transport in memory: everything is torn and interleaved as a number decides."""

    def __init__(self, peer: Peer, window: int, seed: int) -> None:
        self.peer = peer
        self.random = random.Random(seed)
        self.hyper = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.hyper.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.heard: dict[int, tuple[dict[str, str], bytearray]] = {}
        self.trailers: set[int] = set()
        self.ended: set[int] = set()
        self.owed: list[tuple[int, int]] = []
        self.rest: dict[int, tuple[Asked, int]] = {}
        self.hyper.initiate_connection()
        self.exchange()

    def exchange(self) -> None:
        """What hyper has to say, in pieces, and what it makes of the answers."""
        sent = self.hyper.data_to_send()
        while sent:
            size = self.random.choice([1, 2, 9, 10, 100, 5000, 1 << 20])
            self.peer.transport.feed(sent[:size])
            sent = sent[size:]
        received = bytes(self.peer.transport.sent)
        self.peer.transport.sent.clear()
        while received:
            size = self.random.choice([1, 10, 1000, 1 << 20])
            for event in self.hyper.receive_data(received[:size]):
                self.take(event)
            received = received[size:]

    def take(self, event: Any) -> None:
        assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset), event
        if isinstance(event, h2.events.ResponseReceived):
            self.heard[event.stream_id] = self.text(event.headers), bytearray()
        elif isinstance(event, h2.events.DataReceived):
            self.heard[event.stream_id][1].extend(event.data)
            if event.flow_controlled_length:
                self.owed.append((event.stream_id, event.flow_controlled_length))
        elif isinstance(event, h2.events.TrailersReceived):
            assert self.text(event.headers) == {"a": "b"}
            self.trailers.add(event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)

    @staticmethod
    def text(headers: Any) -> dict[str, str]:
        return dict(headers)

    def begin(self, asked: Asked) -> int:
        number = self.hyper.get_next_available_stream_id()
        priority: dict[str, Any] = {}
        if asked.priority:
            priority = {"priority_weight": asked.priority * 100, "priority_depends_on": 0}
        self.hyper.send_headers(number, asked.fields(number), end_stream=not asked.has_content, **priority)
        if asked.priority == 2:
            self.hyper.prioritize(number, weight=7)
        if asked.has_content:
            self.rest[number] = asked, 0
        return number

    def go_on(self, number: int) -> None:
        """Send a piece of a request's content, as far as the server lets it, and END_STREAM behind the last."""
        asked, done = self.rest[number]
        padding = asked.padding
        room = self.hyper.local_flow_control_window(number) - (0 if padding is None else padding + 1)
        piece = asked.content[done : done + max(0, min(room, asked.piece, 16384 - 256))]
        done += len(piece)
        last = done == asked.size
        if not piece and not last:
            return
        if piece or not asked.trailers:
            self.hyper.send_data(
                number, piece, end_stream=last and not asked.trailers, pad_length=padding if piece else None
            )
        self.rest[number] = asked, done
        if last:
            del self.rest[number]
            if asked.trailers:
                self.hyper.send_headers(number, [("a", "b")], end_stream=True)

    def grant(self) -> None:
        """Let the server send again what has come, or some of it."""
        number, size = self.owed.pop(self.random.randrange(len(self.owed)))
        granted = size if self.random.random() < 0.7 else self.random.randint(1, size)
        if granted < size:
            self.owed.append((number, size - granted))
        self.hyper.increment_flow_control_window(granted)
        if number not in self.ended:
            self.hyper.increment_flow_control_window(granted, number)


@given(st.lists(requests, min_size=1, max_size=8), st.sampled_from([1, 100, 65535, 1 << 20]), st.integers(0, 1 << 32))
@example([Asked(size=5, padding=0, trailers=True)], 1, 0)
@examples(200)
def test_rfc_9113_section_8_each_stream_has_its_own_echo(
    loop: asyncio.AbstractEventLoop, asked: list[Asked], window: int, seed: int
) -> None:
    if window < 100:
        asked = [
            dataclasses.replace(each, size=min(each.size, 50), path=each.path.replace("70000", "70")) for each in asked
        ]
    elif window < 65535:
        asked = [dataclasses.replace(each, size=min(each.size, 5000)) for each in asked]
    worker = make(loop, buffer_limit=random.Random(seed).choice(["1MiB", "16MiB"]), buffer_total="64MiB")
    with connected(worker, begin=b"") as peer:
        client = Client(peer, window, seed)
        waiting, begun = list(asked), dict[int, Asked]()
        for _ in range(20_000):
            choices: list[Any] = [each for each in (waiting, client.rest, client.owed) if each]
            if not choices:
                if len(client.ended) == len(asked):
                    break
                peer.transport.pass_turn()
            elif (chosen := client.random.choice(choices)) is waiting:
                one = waiting.pop()
                begun[client.begin(one)] = one
            elif chosen is client.rest:
                client.go_on(client.random.choice(list(client.rest)))
            else:
                client.grant()
            if client.random.random() < 0.5 or not choices:
                client.exchange()
        else:
            raise AssertionError(f"it does not go on: {client.rest}, {peer.connection.streams}")
        client.exchange()
        for number, one in begun.items():
            status, content, trailers = one.answer(number)
            head, heard = client.heard[number]
            assert (int(head[":status"]), bytes(heard)) == (status, content)
            assert (number in client.trailers) == trailers
        assert worker.context.used == 0
        assert peer.connection.idle()
    assert worker.context.used == 0


# --- valid bytes, made invalid ---

HALF = block(*fields())
VALID = [
    get(1), get(1, b"/?delay=1ms"), get(3, b"/?size=100000"), get(5, b"/.echo"), whole(7, b"hello"), post(9),
    post(9, b"/?delay=1h"), data(9, b"x" * 300), data(9, b"x", padding=9), data(9, ends=True), data(7, bytes(16384)),
    headers(9, block((b"a", b"b"))), headers(11, HALF[:9], flags=0), frame(CONTINUATION, 0, 11, HALF[9:12]),
    frame(CONTINUATION, END_HEADERS, 11, HALF[12:]), headers(13, HALF + block((b"x", b"y" * 99), indexed=True)),
    headers(15, HALF + b"\xbe" * 9), settings((INITIAL_WINDOW_SIZE, 0)), settings((INITIAL_WINDOW_SIZE, 1 << 30)),
    settings((INITIAL_WINDOW_SIZE, 100)), window_update(0, 1000), window_update(9, 1 << 20), rst(9), rst(3, CANCEL),
    frame(PRIORITY, 0, 9, bytes(4) + b"\1"), ping(), frame(7, 0, 0, bytes(8)), frame(6, 1, 0, b"draining"),
    whole(17, b"x" * 1000, b"/", (b"content-length", b"1000")), get(19, b"/?abort"), get(21, b"/?close"),
    post(23, b"/", (b"expect", b"100-continue")), get(25, method=b"HEAD"),
    post(27, b"/?echo=json"), data(27, b"{}", ends=True),
    post(29, b"/", (b"content-length", b"70000")), data(29, bytes(16000)), get(31, b"/?rate=1MB&size=100000"),
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Frames in any order, some octets of which are others, not there, or there twice."""
    sent = bytearray(b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=20))))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(sent)))
        how = draw(st.integers(0, 3))
        if how == 0 and at < len(sent):
            sent[at] ^= 1 << draw(st.integers(0, 7))
        elif how == 1 and at < len(sent):
            sent[at] = draw(st.integers(0, 255))
        elif how == 2:
            del sent[at : at + draw(st.integers(1, 30))]
        else:
            sent[at:at] = sent[at : at + draw(st.integers(1, 300))] + draw(st.binary(max_size=20))
    return bytes(sent)


@given(mutated(), st.sampled_from([1, 3, 50, 1 << 20]), st.integers(0, 3), st.booleans())
@examples(400)
def test_rfc_9113_section_5_4_whatever_comes_it_ends_or_goes_on(
    loop: asyncio.AbstractEventLoop, sent: bytes, piece: int, turns: int, fin: bool
) -> None:
    worker = make(loop, max_delay="1h", idle_timeout="1h", buffer_limit="1MiB")
    with connected(worker) as honest:
        with connected(worker) as peer:
            for each in in_pieces(sent, piece):
                peer.transport.feed(each)
            for _ in range(turns):
                peer.transport.pass_turn()
                sweep(worker, 1)
            peer.new()
            if fin:
                peer.transport.eof()
                for _ in range(3):
                    peer.transport.pass_turn()
            elif peer.transport.open:
                while peer.transport.open and PONG not in peer.say(ping() * 200):
                    pass
            assert worker.context.used < 4 << 20
            peer.answers()
        assert worker.context.used == 0
        assert honest.is_answered(1)
    assert not worker.context.connections


@given(st.binary(max_size=200), st.booleans())
@examples(500)
def test_rfc_9113_section_3_4_anything_behind_the_preface(
    loop: asyncio.AbstractEventLoop, sent: bytes, begun: bool
) -> None:
    worker = make(loop)
    with connected(worker, begin=BEGIN if begun else PREFACE) as peer:
        for each in in_pieces(sent, 7):
            peer.transport.feed(each)
        while peer.transport.open and PONG not in peer.say(ping() * 200):
            pass
    assert worker.context.used == 0
