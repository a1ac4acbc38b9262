"""WebSocket without a connection: bytes in, and what is to be sent out.

Modules: protocols.websocket.assembly, wire.deflate.
"""

import ast
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate

from echoserver.protocols.websocket import assembly as module
from echoserver.protocols.websocket.assembly import Assembly, Out
from echoserver.transport.buffers import BufferPool
from echoserver.wire.frames import CloseError, SingleFrame
from tests.unit.conversations import conversations, pieces
from tests.unit.examples import examples
from tests.unit.test_imports import imported_by
from tests.websockets import BINARY, CONTINUATION, PING, PONG, TEXT, Deflate, echo, frame, large, split

MIB = 1 << 20


class Pool(BufferPool):
    """Notes what it is asked for; full: the system has no room."""

    def __init__(self, *, full: bool = False) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.full = full

    def take(self, size: int) -> memoryview:
        self.asked.append(size)
        if self.full:
            raise OSError
        return super().take(size)


class Client:
    """Takes all steps that there are, and answers pings; sent is what it would be sent."""

    def __init__(
        self, *, deflate: bool = False, takeover: bool = True, most: int = 16 * MIB, full: bool = False
    ) -> None:
        self.pool = Pool(full=full)
        extension = PerMessageDeflate(not takeover, not takeover, 15, 12, {"memLevel": 5})
        self.assembly = Assembly([extension] * deflate, most, self.pool)
        self.sent = b""
        self.steps = 0

    def feed(self, data: bytes) -> None:
        self.assembly.receive(data)
        out: Out = []
        try:
            while self.assembly.ready:
                self.steps += 1
                event = self.assembly.step(out)
                if isinstance(event, SingleFrame):
                    out.append(bytes(event.answer()))
                elif event is not None and event[0] & 15 == PING:
                    mask = event[2:6]
                    out.append(echo(PONG, bytes(byte ^ mask[place % 4] for place, byte in enumerate(event[6:]))))
        finally:
            self.sent += b"".join(out)

    def refused(self, data: bytes) -> CloseError:
        with pytest.raises(CloseError) as raised:
            self.feed(data)
        return raised.value


def inflated(sent: bytes) -> bytes:
    """The same frames with payload that is not compressed, but RSV1 where it was."""
    client = Deflate()
    return b"".join(
        frame(each.opcode, client.inflate(each.payload) if each.rsv else each.payload, rsv=each.rsv, mask=None)
        for each in split(sent)
    )


def test_no_io() -> None:
    """It can be used, and is tested here, without an event loop, a transport or a connection."""
    path = Path(module.__file__)
    assert {each for each in imported_by(path) if not each.startswith("echoserver.wire.")} == set()
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    assert not any(isinstance(node, ast.Import) for node in nodes)
    assert {str(node.module).partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)} == {
        "collections", "echoserver", "typing", "websockets",
    }  # fmt: skip


@examples(300)
@given(conversations(deflate=True), st.lists(st.integers(0, 200_000), max_size=6))
def test_any_split_gives_the_same(conversation: tuple[bytes, bytes], cuts: list[int]) -> None:
    sent, answered = conversation
    client = Client(deflate=True)
    for piece in pieces(sent, cuts):
        client.feed(piece)
    assert inflated(client.sent) == answered
    assert client.assembly.idle
    assert (client.assembly.kept, client.assembly.unread) == (0, b"")
    said = [each for each in split(answered) if each.opcode != PONG]
    assert client.assembly.echoed == sum(len(each.payload) for each in said)


# --- what is in progress ---

DEFLATED = Deflate().deflate(b"hello" * 100)

BEGUN = {
    "a header": (frame(BINARY, bytes(300)), 3, 3),
    "a control frame": (frame(PING, b"hello"), 10, 10),
    "a frame": (frame(TEXT, b"hello"), 10, 4),
    "a large frame": (large(BINARY, bytes(100_000)), 100_013, 99_999),
    "a fragment": (frame(TEXT, b"hello", fin=False) + frame(CONTINUATION, b"hello"), 11, 5),
    "an empty fragment": (frame(TEXT, b"", fin=False) + frame(CONTINUATION), 6, 0),
    "half a character": (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\xa9"), 7, 1),
    "a fragment and a header": (frame(TEXT, b"hello", fin=False) + frame(CONTINUATION), 12, 6),
    "a compressed frame": (frame(TEXT, DEFLATED, rsv=4), 5 + len(DEFLATED), 500),
}
each_that_is_begun = pytest.mark.parametrize(("data", "cut", "kept"), BEGUN.values(), ids=BEGUN)


@each_that_is_begun
def test_what_has_begun_is_kept(data: bytes, cut: int, kept: int) -> None:
    client = Client(deflate=True)
    client.feed(data[:cut])
    assert (client.assembly.idle, client.assembly.kept, client.sent) == (False, kept, b"")
    client.feed(data[cut:])
    assert (client.assembly.idle, client.assembly.kept, len(split(client.sent))) == (True, 0, 1)
    client.steps = 0
    client.feed(frame(BINARY, b"hello") * 100)
    assert client.steps == 1, "short frames are taken many at a time again"


def test_what_is_inflated_and_deflated_is_kept() -> None:
    content = random.Random(7692).randbytes(200_000)
    client = Client(deflate=True)
    client.assembly.receive(frame(BINARY, Deflate().deflate(content), rsv=4))
    while not client.assembly.echoed:
        assert client.assembly.step([]) is None
        assert client.assembly.kept >= len(content)
    assert client.assembly.kept == len(content)
    while client.assembly.ready:
        client.assembly.step([])
    assert client.assembly.kept == 0


@each_that_is_begun
def test_what_has_begun_is_dropped(data: bytes, cut: int, kept: int) -> None:
    client = Client(deflate=True)
    client.assembly.receive(data[:cut])
    client.assembly.step([])
    client.assembly.drop()
    assert (client.assembly.ready, client.assembly.idle) == (False, True)
    assert (client.assembly.kept, client.assembly.unread) == (0, b"")


@each_that_is_begun
def test_rfc_6455_section_5_5_1_no_message_is_answered_after_a_close(data: bytes, cut: int, kept: int) -> None:
    """But what comes is still checked, and control frames are still found: the client's close is to come."""
    client = Client(deflate=True)
    client.feed(data[:cut])
    client.assembly.mute()
    client.feed(data[cut:] + frame(BINARY, b"hello") * 2 + large(BINARY, bytes(100_000)))
    client.feed(frame(TEXT, Deflate().deflate(b"hello"), rsv=4) + frame(PING, b"last"))
    said = split(client.sent)
    assert {each.opcode for each in said} == {PONG}
    assert said[-1].payload == b"last"
    assert (client.assembly.idle, client.assembly.kept, client.assembly.echoed) == (True, 0, 0)
    assert client.refused(frame(TEXT, b"\xff")).code == 1007


def test_rfc_6455_section_5_5_1_nor_one_that_follows_an_answer_that_is_deflated() -> None:
    client = Client(deflate=True)
    client.assembly.receive(frame(BINARY, Deflate().deflate(bytes(100_000)), rsv=4))
    while not client.assembly.echoed:
        client.assembly.step([])
    client.assembly.mute()
    while client.assembly.ready:
        client.assembly.step([])
    client.feed(frame(BINARY, b"hello"))
    assert client.sent == b""


# --- what is refused, and when ---


@pytest.mark.parametrize(
    ("fed", "first", "most"),
    [
        (b"", BINARY | 0x80, 1000),
        (b"", BINARY, 1000),
        (frame(BINARY, bytes(600), fin=False), CONTINUATION, 400),
        (b"", BINARY | 0xC0, 1000 + 125 + 15),
        (frame(BINARY, b"", fin=False, rsv=4), CONTINUATION, 1000 + 125 + 15),
    ],
    ids=["a frame", "the first fragment", "another fragment", "a compressed frame", "a compressed fragment"],
)
def test_max_message__is_known_before_the_payload_comes(fed: bytes, first: int, most: int) -> None:
    """What can't be compressed gets longer: by 125 bytes and a 64th at most."""
    client = Client(deflate=True, most=1000)
    client.feed(fed)
    client.feed(b"%c\xfe%b" % (first, most.to_bytes(2, "big")))
    client = Client(deflate=True, most=1000)
    client.feed(fed)
    assert client.refused(b"%c\xfe%b" % (first, (most + 1).to_bytes(2, "big"))).code == 1009


@pytest.mark.parametrize("over", [0, 1])
def test_max_message__of_what_it_inflates_to(over: int) -> None:
    client = Client(deflate=True, most=1000)
    data = frame(BINARY, Deflate().deflate(bytes(1000 + over)), rsv=4)
    if over:
        assert client.refused(data).code == 1009
    else:
        client.feed(data)
        assert inflated(client.sent) == frame(BINARY, bytes(1000), rsv=4, mask=None)


def test_what_came_before_an_error_is_answered() -> None:
    client = Client()
    assert client.refused(frame(TEXT, b"hello") + frame(PING) + frame(TEXT, b"\xff") + frame(TEXT, b"no")).code == 1007
    assert client.sent == echo(TEXT, b"hello") + echo(PONG, b"")


@pytest.mark.parametrize("size", [6, 125, 126, 65_536])
def test_frames_that_are_not_masked(size: int) -> None:
    client = Client()
    assert client.refused(frame(BINARY, b"hello") + frame(BINARY, bytes(size), mask=None)).code == 1002
    assert client.sent == echo(BINARY, b"hello")


@pytest.mark.parametrize("fin", [True, False])
def test_text_is_refused_as_soon_as_it_is_no_utf_8(fin: bool) -> None:
    client = Client()
    data = large(TEXT, b"\xc3" * 1000, fin)
    client.feed(data[:9])  # its first byte
    assert client.refused(data[9:10]).code == 1007


def test_without_deflate_no_message_may_be_compressed() -> None:
    error = Client().refused(frame(TEXT, b"x", rsv=4))
    assert error.reason == "the reserved bit RSV1 must be 0 where permessage-deflate was not negotiated"


# --- large messages ---


@pytest.mark.parametrize(("size", "asked"), [(64 << 10, []), ((64 << 10) + 1, [(64 << 10) + 11])])
def test_a_large_frame_is_answered_in_a_buffer_of_the_pool(size: int, asked: list[int]) -> None:
    client = Client()
    client.assembly.receive(large(BINARY, bytes(size))[:-1])
    assert client.assembly.step([]) is None
    assert client.pool.asked == asked
    client.assembly.receive(b"\0")
    single = client.assembly.step([])
    assert isinstance(single, SingleFrame)
    assert bytes(single.answer()) == echo(BINARY, bytes(size))
    assert (single.buffer is not None) == bool(asked)


def test_no_memory_for_a_large_frame() -> None:
    error = Client(full=True).refused(large(BINARY, bytes(MIB))[:-1])
    assert (error.code, error.reason) == (1013, f"no memory for a message of {MIB} bytes now, try again later")


def test_what_has_come_as_a_whole_needs_no_buffer() -> None:
    client = Client(full=True)
    client.feed(large(BINARY, bytes(MIB)) + large(BINARY, bytes(MIB), fin=False) + frame(CONTINUATION))
    assert client.sent == echo(BINARY, bytes(MIB)) * 2


# --- permessage-deflate ---


@pytest.mark.parametrize(("size", "rsv"), [(MIB, 4), (MIB + 1, 0)])
def test_how_much_is_compressed(size: int, rsv: int) -> None:
    client = Client(deflate=True)
    client.feed(frame(BINARY, Deflate().deflate(bytes(size)), rsv=4, mask=bytes(4)))
    assert inflated(client.sent) == frame(BINARY, bytes(size), rsv=rsv, mask=None)
    assert client.steps > size >> 16, "64 KiB at a time"


def final(data: bytes) -> bytes:
    """A deflate stream that ends with a block with BFINAL set."""
    made = zlib.compressobj(wbits=-12)
    return made.compress(data) + made.flush(zlib.Z_FINISH)


@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_rfc_7692_section_7_2_3_4_blocks_with_bfinal_set(padding: bytes) -> None:
    parts = [final(b"hello "), final(b"world") + padding]
    client = Client(deflate=True)
    for _ in range(2):
        client.feed(frame(BINARY, parts[0], fin=False, rsv=4) + frame(CONTINUATION, parts[1]))
        client.feed(frame(BINARY, b"".join(parts), rsv=4))
    assert inflated(client.sent) == frame(BINARY, b"hello world", rsv=4, mask=None) * 4


def test_what_follows_a_block_with_bfinal_set_is_not_kept() -> None:
    client = Client(deflate=True)
    client.feed(frame(BINARY, final(b"hello"), fin=False, rsv=4))
    assert client.refused(frame(CONTINUATION, b"\xff" * 60_000, fin=False)).code == 1002


def test_rfc_7692_section_7_1_1_1_without_takeover_no_message_goes_back_to_another() -> None:
    deflate = Deflate()
    data = frame(TEXT, deflate.deflate(b"hello world"), rsv=4)
    client = Client(deflate=True, takeover=False)
    client.feed(data * 2)
    answer, again = split(client.sent)
    assert answer == again
    assert client.refused(frame(TEXT, deflate.deflate(b"hello world"), rsv=4)).code == 1002
