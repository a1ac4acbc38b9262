"""What waits for its time comes out as it went in, in whatever pieces."""

from hypothesis import given
from hypothesis import strategies as st

from echoserver.wire.fifo import Fifo
from tests.unit.examples import examples

MIB = 1 << 20


@examples(200)
@given(st.lists(st.one_of(st.binary(max_size=200), st.integers(1, 200_000), st.just(bytes(70_000))), max_size=60))
def test_fifo_gives_what_it_was_given(steps: list[bytes | int]) -> None:
    """Bytes are added, numbers are how many may be taken."""
    fifo, model = Fifo(), b""
    for step in steps:
        if isinstance(step, bytes):
            fifo.add(step)
            model += step
        else:
            taken = bytes(fifo.take(step))
            assert len(taken) <= step
            assert bool(taken) == bool(model)
            assert model.startswith(taken)
            model = model[len(taken) :]
        assert len(fifo) == len(model)
    while model:
        taken = bytes(fifo.take(1 << 30))
        assert taken
        assert model.startswith(taken)
        model = model[len(taken) :]
    assert fifo.take(1) == b""


def test_fifo_joins_small_pieces() -> None:
    fifo = Fifo()
    for _ in range(10_000):
        fifo.add(b"x")
    assert fifo.take(MIB) == b"x" * 10_000


def test_fifo_forgets() -> None:
    fifo = Fifo()
    fifo.add(b"abc")
    assert fifo.take(1) == b"a"
    fifo.clear()
    assert len(fifo) == 0
    fifo.add(b"xyz")
    assert fifo.take(5) == b"xyz"
