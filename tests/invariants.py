"""What holds for an HTTP/1 connection between two callbacks, whatever has come: the rules of its states."""

import asyncio
from typing import Any

from echoserver.protocols.http1 import states
from echoserver.protocols.http1.connection import HttpConnection
from echoserver.protocols.http1.content import NO_CONTENT
from echoserver.protocols.http1.gather import Gathered
from echoserver.protocols.http1.states import State
from echoserver.transport.connection import Connection
from echoserver.transport.readers import Delegate
from echoserver.wire.request import NO_REQUEST

seen: set[tuple[State, State]] = set()
"""The changes of state that have been seen."""


class _Recorded:
    """A slot that notes how it changes."""

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def __get__(self, connection: HttpConnection | None, kind: type) -> Any:
        return self if connection is None else self._slot.__get__(connection, kind)

    def __set__(self, connection: HttpConnection, state: State) -> None:
        before: State | None = getattr(connection, "state", None)
        if before is not None:
            assert state in (before, states.CLOSED) or state.name in before.then, f"{before} -> {state}"
            seen.add((before, state))
        self._slot.__set__(connection, state)


def record() -> None:
    """From now on each change of a state has to be in the table."""
    if not isinstance(slot := vars(HttpConnection)["state"], _Recorded):
        HttpConnection.state = _Recorded(slot)  # type: ignore[assignment,misc]


def check(connection: Connection, attached: asyncio.BaseProtocol | None = None, *, reading: bool | None = None) -> None:
    """Raise AssertionError where a connection is as it never should be; for others than HTTP/1's little is known.

    attached: the transport's protocol, if that is known, as reading, whether the transport reads.
    """
    assert connection.unsent >= 0
    if isinstance(connection, HttpConnection):
        _check_http(connection)
        if connection.state is states.CLOSED:
            return
        if attached is not None:
            _check_attached(connection, attached)
    if reading is not None and not connection.transport.is_closing():
        # uvloop reads no more after the client's FIN
        ended = connection.closing or (isinstance(connection, HttpConnection) and connection._client_fin)
        assert reading == (connection.stopped == 0) or (ended and not reading), f"{reading=}, {connection.stopped=}"


def _check_http(connection: HttpConnection) -> None:
    state, content = connection.state, connection.content
    under_way = state in (states.CONTENT, states.ANSWERING)
    assert (content is not NO_CONTENT) == under_way, f"{state} with {content}"
    assert (connection.request is not NO_REQUEST) == under_way, f"{state} with {connection.request.head!r}"
    assert content.complete == (state is states.ANSWERING), f"{state}, complete: {content.complete}"
    assert connection._memo is NO_REQUEST or state is states.IDLE, f"{state} with a memo"
    head, pending = connection._partial_head, connection._pending
    assert (head is not None) == (state in (states.HEAD, states.BLANK)), f"{state} with {head!r}"
    may_wait = under_way or state in (states.IDLE, states.NEW)
    assert pending is None or may_wait, f"{state} with something that was read and waits"
    kept = len(head or b"") + content.kept + (len(pending[0]) if pending else 0)
    assert connection.buffered == kept, f"{state}: {connection.buffered} are held, and {kept} kept"
    over = state in (states.LINGERING, states.CLOSED) or connection.transport.is_closing()
    assert (connection.fin_sent is not None) <= over, f"{state} after our FIN"
    assert connection.closing or state is not states.CLOSING or connection.transport.is_closing()
    if state is states.NEW:
        assert connection.unsent == 0


def _check_attached(connection: HttpConnection, attached: asyncio.BaseProtocol) -> None:
    if connection.state is states.PARKED:
        assert type(attached) is Gathered, f"parked, and read by {attached}"
    elif connection.content.in_place:
        assert isinstance(attached, Delegate), f"{connection.content} is under way, and read by {attached}"
        assert attached._connection is connection
    else:
        assert attached is connection or type(attached).__name__ == "SmallReads", f"{connection.state}: {attached}"
