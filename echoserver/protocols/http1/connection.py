"""What every HTTP connection has besides its requests: errors, deadlines, an end, and an account of what was done."""

import asyncio
import socket
from collections.abc import Callable

from echoserver.observe import counters
from echoserver.protocols.http1.site import Site
from echoserver.transport.connection import IDLE_GRACE, Connection
from echoserver.transport.context import Context, client
from echoserver.transport.origin import Origin
from echoserver.transport.readers import attach
from echoserver.wire import response
from echoserver.wire.request import NO_REQUEST, Reader, Request
from echoserver.wire.response import Refusal

_ANSWERED = {status: counters.index("requests", f"{status}xx") for status in (2, 3, 4, 5)}
_OK = _ANSWERED[2]
_ERRORS = {
    status: counters.index("errors", reason)
    for status, reason in {
        400: "bad_request", 404: "not_found", 413: "content_too_long", 414: "header_too_long", 417: "expectation",
        431: "header_too_long", 501: "not_implemented", 503: "too_much_memory", 505: "version",
    }.items()
}  # fmt: skip
_FULL, _DRAINING = (counters.index("errors", reason) for reason in ("too_many_connections", "draining"))
_HEADER, _KEEP_ALIVE, _IDLE = (counters.index("timeouts", each) for each in ("header", "keep_alive", "idle"))
_CUT_OFF = 499  # what the access log says, as nginx's does, of a request whose client went away


class HttpConnection(Connection):
    """The common part of the HTTP protocols: not usable by itself.

    _receive is what the connection is doing, a method that takes the bytes that come next; _drop after the last answer.
    """

    __slots__ = (
        "_began", "_hits", "_pending", "_receive", "_request", "_serving", "_since", "reader",
        "site",
    )  # fmt: skip

    reader: Reader
    """Reads header sections for connections like this one."""

    _receive: Callable[..., None]
    _request: Request
    """The last request, if the next one may be the same and be answered at once; else NO_REQUEST. See _remember()."""
    _hits: int
    """How often it has come again: counted with all its bytes when it is another request's turn."""
    _pending: bytearray | None
    """The beginning of a header section."""
    _serving: Request
    """The request whose content is being received; else NO_REQUEST."""
    _began: float
    """The loop's time when the request being received began to come, 0 before; only where there is an access log."""
    _since: float | None
    """Since when the client has owed its first header section, or the rest of one; None: it does not."""

    def __init__(self, context: Context, origin: Origin, site: Site) -> None:
        super().__init__(context, origin)
        self._request = self._serving = NO_REQUEST
        self.site = site
        self.reader = site.reader
        if origin.tls is not None and (certificate := origin.tls.getpeercert()):
            self.reader = site.reader_for(certificate)
        self._hits = 0
        self._began = 0.0
        self._pending = None
        self._since = context.now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        context = self.context
        if context.log is not None:
            client(self)
        if context.under_pressure:
            attach(self)
        if self.site.public and context.at_capacity():
            if len(context.connections) > context.max_connections + context.refusals:
                context.counts[_FULL] += 1
                self.cut()
            else:
                self._refuse(Refusal(503, "too many connections"), error=_FULL)
        elif context.rejecting:
            self._refuse(Refusal(503, "the server is shutting down"), error=_DRAINING)

    # --- what those say who know their requests ---

    def answering(self) -> bool:
        """Whether the echo of the request whose content is being received has begun."""
        raise NotImplementedError

    def content_so_far(self) -> int:
        """Bytes of content that have been taken of the request being received."""
        raise NotImplementedError

    def content_answered(self) -> int:
        """Bytes of content of the answer to it that have been sent, or wait to be."""
        raise NotImplementedError

    # --- what has been done, for metrics and the access log ---

    def _remember(self, request: Request) -> None:
        """Have the next request compared with this one, and count how often it was that of before."""
        hits, before = self._hits, self._request
        self._request = request
        if hits:
            self._hits = 0
            self.context.counts[_OK] += hits
            self.received += hits * before.size
            self.sent += hits * (len(self.site.prefix) + len(before.answer))
            if before.content_type:
                self.sent += hits * before.content_length

    def flush_counters(self) -> None:
        self._remember(self._request)
        super().flush_counters()

    def _tell(self, answered: int, served: list[Request]) -> None:
        """So many requests were answered with 200; those to be logged are taken out of served."""
        self.context.counts[_OK] += answered
        if served:
            for each in served:
                self._log(each.head, 200, each.content_length, each.echoed)
            served.clear()

    def _done(self, request: Request, received: int, sent: int, status: int = 200) -> None:
        """A request was answered; received, sent: bytes of content."""
        self.context.counts[_ANSWERED[status // 100]] += 1
        if self.context.log is not None:
            self._log(request.head, status, received, sent)

    def _log_cut_off(self, status: int) -> None:
        """The request being received won't be answered, or not completely."""
        request = self._serving
        if self.context.log is None:
            return
        if self._begun():
            self._log(self._head_so_far(), status, 0, 0)
        elif request is not NO_REQUEST:
            self._log(request.head, status, self.content_so_far(), max(0, self.content_answered() - self.owed))

    def _log(self, head: bytes, status: int, received: int, sent: int) -> None:
        if self.site.public:
            self.context.log_request(self, head, status, received, sent, self._began)

    # --- how it ends ---

    def _cork(self) -> None:
        """Have the kernel hold back the last answer for the FIN that follows at once: one packet instead of two."""
        if self.transport.is_closing() or self.origin.tls is not None:  # TLS ends with bytes of its own
            return
        try:  # noqa: SIM105 - suppress() takes as long as the system call
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        except OSError:  # a unix socket
            pass

    def _refuse(self, refusal: Refusal, head: bytes = b"", *, error: int | None = None) -> None:
        """Send an error response and nothing after it; head: as much as there is of the header section in question.

        error: where it is counted, if not by its status.
        """
        context, status = self.context, refusal.status
        silent = head.startswith(b"HEAD ") or self._serving.silent
        answer = response.refusal(self.site.start(status), refusal, silent=silent)
        self.send(answer)
        context.counts[_ANSWERED[status // 100]] += 1
        if error is None:
            error = _ERRORS.get(status)
        if error is not None:
            context.counts[error] += 1
        if context.log is not None:
            if not head and self._serving is not NO_REQUEST:
                head = self._serving.head
            sent = 0 if silent else len(answer) - answer.find(b"\r\n\r\n") - 4
            self._log(head, status, self.content_so_far(), sent)
        self._drop_all()

    def _cut_short(self, status: int) -> None:
        """An echo that has begun can't be completed: its client sees that by the missing last chunk."""
        self.context.counts[_ERRORS[status]] += 1
        self._log_cut_off(status)
        self._drop_all()

    def _drop_all(self) -> None:
        """Nothing is answered any more: after what is on its way goes our FIN, and what still comes is dropped."""
        self._receive = HttpConnection._drop
        self.lingers = True
        self._serving = NO_REQUEST
        self._remember(NO_REQUEST)
        self._pending = None
        self._since = None
        self.hold(-self.held)
        if not self.finish():
            return
        self.pause()

    def _drop(self, data: bytes, _: int = 0) -> None:
        pass

    def pause_writing(self) -> None:
        self._remember(NO_REQUEST)
        super().pause_writing()

    def eof_received(self) -> bool:
        if self._begun():
            self._refuse(
                Refusal(400, "the client closed the connection before the header section was complete"),
                self._head_so_far(),
            )
        elif self._serving is not NO_REQUEST and not self.answering():
            self._refuse(Refusal(400, "the client closed the connection before the content was complete"))
        self.lingers = False  # nothing more comes
        return self.finish()

    def _begun(self) -> bool:
        """Whether a header section has begun: empty lines, and the beginning of one, are none."""
        return self._pending is not None and self._pending not in (bytearray(), bytearray(b"\r"))

    def _head_so_far(self) -> bytes:
        return bytes(self._pending or b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self._log_cut_off(_CUT_OFF)
        super().connection_lost(exc)
        self._pending = None

    # --- once a sweep, and in a drain ---

    def sweep(self, now: float) -> None:
        config = self.context.config
        if self._receive is HttpConnection._drop:
            self._sweep_last(now)
        elif self.behind is not None:
            if self.stalled(now, config.idle_timeout):
                self.context.counts[_IDLE] += 1
                self.cut()
        elif self._since is not None and 0 < config.header_timeout <= now - self._since:
            if self._begun():
                late = Refusal(
                    408, f"the header section was not complete within {config.header_timeout:g} s (--header-timeout)"
                )
                self._refuse(late, self._head_so_far(), error=_HEADER)
            else:
                self.context.counts[_HEADER] += 1
                self.finish()  # nothing was asked: a connection made in advance
        elif self.idle():
            quiet = now - self.last_activity
            if 0 < config.keep_alive_timeout <= quiet:
                self.context.counts[_KEEP_ALIVE] += 1
                self.finish()
            elif self.context.closing_idle and quiet >= IDLE_GRACE:
                self.finish()
        elif self._serving is not NO_REQUEST and self.stalled(now, config.idle_timeout):
            self._content_overdue()

    def _sweep_last(self, now: float) -> None:
        """After the last answer: while that is on its way --idle-timeout holds, then LINGER_TIMEOUT."""
        if self.behind is not None:
            if self.stalled(now, self.context.config.idle_timeout):
                self.context.counts[_IDLE] += 1
                self.cut()
        elif self.has_lingered(now):
            self.transport.close()

    def _content_overdue(self) -> None:
        if self.answering():
            self.context.counts[_IDLE] += 1
            self.cut()
        else:
            attach(self)
            self._refuse(
                Refusal(408, f"no content came for {self.context.config.idle_timeout:g} s (--idle-timeout)"),
                error=_IDLE,
            )

    def idle(self) -> bool:
        """Between two requests, or before the first."""
        over = self._receive is HttpConnection._drop
        return self._serving is NO_REQUEST and not self._begun() and not over and self.behind is None

    def unready(self) -> None:
        self._remember(NO_REQUEST)  # /readyz may fit its template

    def drain(self) -> None:
        self._remember(NO_REQUEST)
        if self._serving is not NO_REQUEST:
            self._serving = self._serving.as_last()
        if self._receive is not HttpConnection._drop and not self._begun():
            self._since = None  # nothing was asked yet: idle
