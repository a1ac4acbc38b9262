"""What an HTTP/1 connection is doing: the table of its states.

HttpConnection goes by what a state says of deadlines, of the client's FIN and of idleness; what may follow a state is
what the tests check each change against. In CONTENT and ANSWERING there is a Content (content.py). The memo, with which
a request that comes again is answered at once, is kept in IDLE alone, so that the fast path needs no look at the state.
"""

from enum import Enum


class Deadline(Enum):
    """What the client owes, and by when. While something waits to be sent to it, only --idle-timeout counts."""

    HEADER = "a whole header section, within --header-timeout; in NEW and BLANK, KEEP_ALIVE applies as well"
    KEEP_ALIVE = "another request, within --keep-alive-timeout"
    CONTENT = "some content every --idle-timeout"
    FIN = "its FIN, within LINGER_TIMEOUT after ours"
    NONE = "nothing: it is our turn"


class Fin(Enum):
    """What the client's FIN means."""

    END = "the connection ends after what is on its way"
    INCOMPLETE = "the request is incomplete: 400; where the answer has begun, it is cut off"
    LATER = "END, after the answer"


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
"""Nothing was asked yet; or an empty line has come in two reads, after which the client owes as much."""
BLANK = State("BLANK", Deadline.HEADER, Fin.END, "HEAD NEW CLOSING", idle=True)
"""The CR of an empty line before a request has come (RFC 9112 section 2.2)."""
IDLE = State("IDLE", Deadline.KEEP_ALIVE, Fin.END, "BLANK HEAD CONTENT CLOSING", idle=True)
"""Between two requests. One that comes whole is answered without another state."""
PARKED = State("PARKED", Deadline.KEEP_ALIVE, Fin.END, "IDLE CONTENT CLOSING", idle=True)
"""As IDLE, but a Gathered still reads for the connection: the next request is often the same as the last."""
HEAD = State("HEAD", Deadline.HEADER, Fin.INCOMPLETE, "IDLE CLOSING")
"""Within a header section. Once complete, it is handled as if it had come whole in IDLE."""
CONTENT = State("CONTENT", Deadline.CONTENT, Fin.INCOMPLETE, "IDLE PARKED ANSWERING CLOSING")
"""Within a request's content, which a Content takes; its answer may have begun (Content.begun)."""
ANSWERING = State("ANSWERING", Deadline.NONE, Fin.LATER, "IDLE")
"""All of a request has come, and its answer is not complete: it is on demand."""
CLOSING = State("CLOSING", Deadline.NONE, Fin.END, "LINGERING")
"""Nothing more is answered; what is queued is being sent, and nothing is read."""
LINGERING = State("LINGERING", Deadline.FIN, Fin.END, "")
"""All is sent, our FIN too; what comes until the client's is dropped (RFC 9112 section 9.6)."""
CLOSED = State("CLOSED", Deadline.NONE, Fin.END, "")
"""The transport is closed, or belongs to another protocol."""

ALL = (NEW, BLANK, IDLE, PARKED, HEAD, CONTENT, ANSWERING, CLOSING, LINGERING, CLOSED)
