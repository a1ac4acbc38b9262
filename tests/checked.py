"""The server, ended with 70 and a traceback where a connection is as it never should be after a callback.

`python -m tests.checked` has the arguments of echoserver; see invariants.py.
"""

import functools
import os
import traceback
from collections.abc import Callable
from typing import Any

from echoserver.__main__ import run
from echoserver.layers.tls import Tls
from echoserver.protocols.http1.connection import HttpConnection
from echoserver.protocols.http1.gather import Gathered
from echoserver.transport.connection import Connection
from echoserver.transport.readers import Delegate, Relay, RelayContent, SmallReads
from tests import invariants

CALLBACKS: dict[type, tuple[str, ...]] = {
    HttpConnection: (
        "data_received", "eof_received", "resume_writing", "connection_lost", "take_turn", "sweep", "drain",
        "on_answered",
    ),
    Delegate: ("eof_received", "resume_writing", "connection_lost"),
    **dict.fromkeys((Gathered, Relay, RelayContent, SmallReads), ("buffer_updated",)),
}  # fmt: skip


depth = [0]
"""Callbacks within callbacks."""


def checked(callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def call(protocol: Connection | Delegate[Any], *words: Any) -> Any:
        inner, depth[0] = depth[0], depth[0] + 1
        try:
            result = callback(protocol, *words)
        finally:
            depth[0] = inner
        if not inner:  # else it is another callback that is not over
            connection = protocol if isinstance(protocol, Connection) else protocol._connection
            transport = connection.transport
            try:
                if isinstance(transport, Tls):
                    invariants.check(connection, transport._protocol)
                else:
                    invariants.check(connection, transport.get_protocol(), reading=transport.is_reading())
            except AssertionError:
                traceback.print_exc()
                os._exit(70)
        return result

    return call


if __name__ == "__main__":
    invariants.record()
    for kind, names in CALLBACKS.items():
        for name in names:
            setattr(kind, name, checked(getattr(kind, name)))
    run()
