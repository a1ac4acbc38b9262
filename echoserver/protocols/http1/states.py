"""What an HTTP/1 connection is doing: the table of its states, which HttpConnection runs.

In NEW, BLANK, IDLE and PARKED nothing is under way that would be lost. In CONTENT and ANSWERING there is a Content
(content.py). The memo, with which a request that comes again is answered at once, is kept in IDLE alone, so that the
fast path needs no look at the state.
"""

from enum import Enum


class Deadline(Enum):
    """What the client has to do in time. What it is sent, it is to read within --idle-timeout first."""

    HEADER = "complete a header section within --header-timeout; where the connection is idle, KEEP_ALIVE too"
    KEEP_ALIVE = "begin another request within --keep-alive-timeout"
    CONTENT = "send some content every --idle-timeout"
    FIN = "end the connection within LINGER_TIMEOUT, for we have done so"
    NONE = "nothing: it is our turn"


class Fin(Enum):
    """What the client's FIN means."""

    END = "the connection ends after what is on its way"
    INCOMPLETE = "400, for the rest of the request is missing; where the answer has begun, it ends without the rest"
    LATER = "END, once the request has been answered"


class State:
    """idle: a drain may end the connection. then: the names of the states that may follow, besides CLOSED."""

    __slots__ = ("deadline", "fin", "idle", "name", "then")

    def __init__(self, name: str, deadline: Deadline, fin: Fin, then: str, *, idle: bool = False) -> None:
        self.name = name
        self.deadline = deadline
        self.fin = fin
        self.then = frozenset(then.split())
        self.idle = idle

    def __repr__(self) -> str:
        return self.name


NEW = State("NEW", Deadline.HEADER, Fin.END, "BLANK HEAD IDLE CONTENT CLOSING", idle=True)
"""Nothing was asked yet."""
BLANK = State("BLANK", Deadline.HEADER, Fin.END, "HEAD CLOSING", idle=True)
"""Empty lines before a request have begun to come (RFC 9112 section 2.2)."""
IDLE = State("IDLE", Deadline.KEEP_ALIVE, Fin.END, "BLANK HEAD CONTENT CLOSING", idle=True)
"""Between two requests. One that comes whole is answered without another state."""
PARKED = State("PARKED", Deadline.KEEP_ALIVE, Fin.END, "IDLE CONTENT CLOSING", idle=True)
"""Likewise, and a Gathered still has the transport, for the next request may be the same as the last."""
HEAD = State("HEAD", Deadline.HEADER, Fin.INCOMPLETE, "IDLE CLOSING")
"""Within a header section; when it is complete, it is as if all of it had come in IDLE."""
CONTENT = State("CONTENT", Deadline.CONTENT, Fin.INCOMPLETE, "IDLE PARKED ANSWERING CLOSING")
"""Within a request's content; what is to be done with it is the Content's."""
ANSWERING = State("ANSWERING", Deadline.NONE, Fin.LATER, "IDLE")
"""All of a request has come, and its answer is not complete: it is on demand."""
CLOSING = State("CLOSING", Deadline.NONE, Fin.END, "LINGERING")
"""The last answer is on its way; what comes is dropped."""
LINGERING = State("LINGERING", Deadline.FIN, Fin.END, "")
"""All is sent, our FIN too; what comes until the client's is dropped (RFC 9112 section 9.6)."""
CLOSED = State("CLOSED", Deadline.NONE, Fin.END, "")
"""The transport is gone, or another protocol's."""

ALL = (NEW, BLANK, IDLE, PARKED, HEAD, CONTENT, ANSWERING, CLOSING, LINGERING, CLOSED)
