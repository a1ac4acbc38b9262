"""What WebSocket clients send, as hypothesis draws it, and what they are answered."""

import itertools

from hypothesis import strategies as st

from tests.websockets import BINARY, CONTINUATION, PING, PONG, TEXT, Deflate, echo, frame

masks = st.binary(min_size=4, max_size=4)
small = st.sampled_from([0, 1, 2, 3, 5, 124, 125, 126, 127, 300, 65535, 65536])
texts = st.text(max_size=20).map(lambda text: text.encode("utf-8", "ignore"))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@st.composite
def conversations(draw: st.DrawFn, deflate: bool = False) -> tuple[bytes, bytes]:
    """What a client sends, and what it is answered. deflate: some of it is compressed, and the answers to be so."""
    sent, answered = b"", b""
    deflating = Deflate()
    for _ in range(draw(st.integers(0, 5))):
        opcode = draw(st.sampled_from([TEXT, BINARY, PING, PONG]))
        if opcode in (PING, PONG):
            payload = draw(st.binary(max_size=125))
            sent += frame(opcode, payload, mask=draw(masks))
            answered += echo(PONG, payload) if opcode == PING else b""
            continue
        payload = draw(texts) * draw(st.sampled_from([1, 1, 1, 40])) if opcode == TEXT else bytes(draw(small))
        rsv = 4 if deflate and draw(st.booleans()) else 0
        content = deflating.deflate(payload) if rsv else payload
        parts = pieces(content, draw(st.lists(st.integers(0, 1000), max_size=3))) or [b""]
        for number, part in enumerate(parts):
            if number and draw(st.booleans()):
                sent += frame(PING, b"between", mask=draw(masks))
                answered += echo(PONG, b"between")
            fin, form = number == len(parts) - 1, draw(st.sampled_from([0, 0, 2, 8]))
            first = (CONTINUATION, 0) if number else (opcode, rsv)
            sent += frame(first[0], part, fin, first[1], mask=draw(masks), form=form)
        answered += frame(opcode, payload, rsv=rsv, mask=None)
    return sent, answered
