"""What takes the content of a stream that is not simply echoed: a call of gRPC, an answer on demand, a tunnel."""

from echoserver.wire.response import HttpError


class Taker:
    """The base class. Its only instance, ECHO, means that content goes back as it comes.

    kept: bytes that wait here. begun: the rest of an answer is to come from here. reads_on: content is wanted although
    our side has ended. is_endless: it ends only when the server does. is_a_connection: what is spoken is counted,
    logged and accounted for as on a connection of its own.
    """

    __slots__ = ()

    is_a_connection: bool = False

    @property
    def begun(self) -> bool:
        return False

    @property
    def reads_on(self) -> bool:
        return False

    @property
    def kept(self) -> int:
        return 0

    @property
    def is_endless(self) -> bool:
        return False

    def take(self, content: bytes, *, ends: bool) -> None:
        """Content has come, as long as it was declared."""
        raise AssertionError("the stream echoes it")

    def resumed(self) -> None:
        """The client takes more."""

    def is_waited_for(self) -> bool:
        """Whether the server, not the client, has to act next."""
        return False

    def refuse(self, error: HttpError) -> bool:
        """The request is not served, or not to its end; returns whether that has been said."""
        return False

    def unready(self) -> None:
        """The server is not ready any more."""

    def drain(self) -> None:
        """A drain has begun."""

    def on_closed(self, *, cut_off: bool) -> None:
        """The stream has ended; cut_off: before it was complete."""


ECHO = Taker()
