"""Data as it may come: in pieces of one size, split in two, or in any pieces."""

from collections.abc import Iterator

from hypothesis import strategies as st


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def bytewise(data: bytes) -> list[bytes]:
    return in_pieces(data, 1)


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Whole, in pieces of one, two, three and seven bytes, and every split in two."""
    yield [data]
    for size in (1, 2, 3, 7):
        yield in_pieces(data, size)
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]


@st.composite
def pieces_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Some of them may be empty."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]
