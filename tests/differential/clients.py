"""Has conversations with a server, many at a time over as many sockets, and says in which something was wrong."""

import contextlib
import dataclasses
import selectors
import socket
import struct
import time
from collections.abc import Iterator

import h11

from tests.differential import promises, reading
from tests.differential.conversations import (
    CUT,
    FIN,
    SLAM,
    Await,
    Conversation,
    Send,
    Settings,
    Sleep,
    conversation,
)
from tests.differential.promises import Answer

_PATIENCE = 15.0  # seconds without a step forward, after which a conversation is given up
_QUIET = 0.05  # seconds that a client that reads late waits while nothing more is taken
_LINGERS = 1.0  # seconds that the server reads on after its last answer, at least
_AT_ONCE = 32
_SHOWN = 300  # bytes of a piece, or an answer, that a report shows

_NO_LINGER = struct.pack("@ii", 1, 0)


def _spin(seconds: float) -> None:
    """Wait for less than sleep() can."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


class _Responses:
    """Reads responses as h11's client does, one Connection each: what is asked for by whom is known already."""

    def __init__(self, due: list[Answer]) -> None:
        self._due = due
        self.whole: list[tuple[int, list[tuple[bytes, bytes]], bytes]] = []
        self.interim = self.interim_since = 0
        self.head: h11.Response | None = None
        self.content: list[bytes] = []
        self.wrong = ""
        self.behind = b""
        self._reader: h11.Connection | None = None

    def _begin(self) -> h11.Connection | None:
        number = len(self.whole)
        if number >= len(self._due):
            return None
        self._reader = reader = h11.Connection(h11.CLIENT)
        method = "HEAD" if self._due[number].silent else "GET"
        reader.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        reader.send(h11.EndOfMessage())
        self.head, self.content = None, []
        self.interim_since = 0
        return reader

    def feed(self, data: bytes) -> None:
        """What has come; b"": the server's FIN."""
        while not self.wrong:
            reader = self._reader or self._begin()
            if reader is None:
                self.behind += data
                return
            if data:
                reader.receive_data(data)
            data = self._read(reader)
            if self._reader is not None or not data:
                return

    def _read(self, reader: h11.Connection) -> bytes:
        """Returns what came behind a response that is complete; else _reader stays."""
        try:
            while True:
                event = reader.next_event()
                if isinstance(event, h11.Data):
                    self.content.append(bytes(event.data))
                elif isinstance(event, h11.InformationalResponse):
                    if event.status_code != 100 or event.headers.raw_items():
                        self.wrong = "an interim response that is not 100"
                    self.interim += 1
                    self.interim_since += 1
                elif isinstance(event, h11.Response):
                    self.head = event
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return b""
        except h11.RemoteProtocolError as error:
            self.wrong = f"h11 can't read the response: {str(error)[:60]}"
            return b""
        assert self.head is not None
        due = self._due[len(self.whole)]
        fields = list(self.head.headers)
        if self.interim_since > due.interim:
            self.wrong = "100 that nobody asked for, or twice"
        if self.interim_since and due.early is not None and self.head.status_code in due.early.statuses:
            self.wrong = "100 before an error that was decided"
        content = b"".join(self.content)
        found = promises.wrong(due, self.head.status_code, fields, content)
        if found and due.early is not None and not self.interim_since:
            early = dataclasses.replace(due.early, about=due.about, behind=True)
            if not promises.wrong(early, self.head.status_code, fields, content):
                self._due[len(self.whole) :] = [early]
                found = ""
        if found and not self.wrong:
            self.wrong = found
        self.whole.append((self.head.status_code, fields, content))
        self._reader = None
        return reader.trailing_data[0]

    def begun(self) -> bool:
        """Whether there is a beginning of a response that is not complete."""
        return self._reader is not None and self.head is not None

    def closing(self) -> bool:
        """Whether the last response said that it was the last."""
        return bool(self.whole) and (b"connection", b"close") in self.whole[-1][1]


class _Client:
    """One conversation under way."""

    def __init__(self, what: Conversation, settings: Settings, port: int) -> None:
        self.what = what
        self.due = promises.answers(list(reading.read(what.sent, settings)), settings)
        self.responses = _Responses(self.due)
        self.step = 0
        self.unsent = memoryview(b"")
        self.wake = 0.0
        self.began = self.stamp = time.monotonic()
        self.sent_all = self.ended = self.reset = self.half_closed = False
        self.reads = not what.late
        self.ready = False
        self.got = bytearray()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if what.buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, what.buffer)
        self.socket.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        self.socket.bind((f"127.0.0.{2 + what.number % 250}", 0))  # so that ports in TIME_WAIT do not run out
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)

    # each returns whether the conversation is over

    def read(self) -> bool:
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return False
        except OSError:
            self.reset = True
            return True
        self.stamp = time.monotonic()
        if not data:
            self.ended = True
            return True
        if len(self.got) < 4000:
            self.got += data[:4000]
        self.responses.feed(data)
        return bool(self.responses.wrong)

    def go_on(self) -> tuple[bool, bool]:
        """Send what can be sent. Returns whether it waits for room, and whether the conversation is over."""
        while self.step < len(self.what.steps):
            now = time.monotonic()
            if self.wake > now:
                return False, False
            step = self.what.steps[self.step]
            if isinstance(step, Await):
                answers, interim = len(self.responses.whole), self.responses.interim
                if self.responses.closing():  # a client that is told so sends nothing more
                    break
                short = answers < step.answers or (answers == step.answers and interim < step.interim)
                if short and now - self.stamp < step.patience:
                    return False, False
            elif isinstance(step, Sleep):
                if not self.wake:
                    self.wake = now + step.seconds
                    return False, False
            else:
                self.unsent = self.unsent or memoryview(step.data)
                try:
                    taken = self.socket.send(self.unsent)
                except BlockingIOError:
                    return True, False
                except OSError:
                    self.reset = True
                    self._read_on()
                    return False, True
                self.stamp = now
                self.unsent = self.unsent[taken:]
                if self.unsent:
                    return True, False
                if self.what.hasty:
                    _spin(self.what.gap)
                else:
                    self.wake = 0.0
                    self.step += 1
                    return False, False  # the next piece is for the next turn
            self.wake = 0.0
            self.step += 1
        self.sent_all = self.reads = True
        return False, self._end()

    def _read_on(self) -> None:
        """After a reset that a send has met: what came before it can still be read."""
        while not self.read():
            pass

    def _end(self) -> bool:
        ending = self.what.ending
        if ending == CUT:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            return True
        answered = len(self.responses.whole) >= sum(
            not (each.error and each.about and not each.about.complete) for each in self.due
        )
        if ending == SLAM and answered and len(self.responses.whole) == len(self.due):
            return True
        if not self.half_closed and (ending == FIN or answered):
            self.half_closed = True
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.reset = True
                self._read_on()
                return True
        return False

    def verdict(self) -> str:
        """What was wrong: "" for nothing."""
        responses, due = self.responses, self.due
        begun = responses.begun()
        if responses.wrong:
            return responses.wrong
        if self.what.ending == CUT and self.sent_all:
            return ""
        left = due[len(responses.whole) :]
        if not (self.ended or self.reset):
            if not left and self.what.ending == SLAM and self.sent_all:
                return ""
            return "neither answered nor closed" if left else "answered, and not closed"
        if responses.behind:
            return "bytes behind the last answer"
        resets = [each.reset or (each.early is not None and each.early.reset) for each in left]
        if any(resets) and self.reset and not (begun and resets[0]):
            return ""  # one that was asked for, which may have destroyed the answers before it
        if left and left[0].reset:
            return "no reset where one was asked for"
        if left:
            return self._unfinished(left[0])
        if self.reset and not self._has_lingered():
            return f"a reset after the last answer{'; bytes were behind it' if due and due[-1].behind else ''}"
        return ""

    def _has_lingered(self) -> bool:
        """Whether the server may have stopped to read what comes behind its last answer: a busy client is slow."""
        return bool(self.due) and self.due[-1].behind and time.monotonic() - self.began > _LINGERS

    def _unfinished(self, due: Answer) -> str:
        """What is wrong with an answer that is not complete, and all there is."""
        responses = self.responses
        how = "reset" if self.reset else "closed"
        if self.reset and self._has_lingered():
            return ""  # this client was slow to read, too
        if not responses.begun() or responses.head is None:
            return f"the connection was {how} before the response had begun"
        if due.cut is None:
            return f"the connection was {how} before the response was complete"
        if responses.head.status_code in due.statuses:
            return "an error that breaks off"
        if not due.cut.startswith(b"".join(responses.content)):
            return "a beginning of something else"
        return "a reset where an answer breaks off" if self.reset and not self._has_lingered() else ""


Mismatch = tuple[str, _Client]


def _shown(data: bytes) -> str:
    return repr(data if len(data) <= _SHOWN else data[:_SHOWN]) + (
        f" ... {len(data)} bytes" if len(data) > _SHOWN else ""
    )


def report(kind: str, client: _Client) -> str:
    """A conversation for a person to read."""
    lines = [
        f"conversation {client.what.number}: {kind}",
        f"  {client.what.ending}, "
        + ", ".join(f"{each}: {getattr(client.what, each)}" for each in ("late", "hasty", "gap", "buffer")),
    ]
    for number, step in enumerate(client.what.steps):
        mark = "" if number < client.step else " (not done)"
        lines.append(f"  {'send ' + _shown(step.data) if isinstance(step, Send) else step}{mark}")
    lines += [
        f"  due: {'/'.join(map(str, sorted(each.statuses)))}{' and close' * bool(each.closes)} {_shown(each.content)}"
        for each in client.due
    ]
    lines += [f"  came: {status} {_shown(content)} {fields}" for status, fields, content in client.responses.whole]
    if client.responses.begun() and client.responses.head is not None:
        lines.append(f"  then: {client.responses.head.status_code} {_shown(b''.join(client.responses.content))}")
    lines.append(
        f"  after {client.stamp - client.began:.2f} s: the server's FIN: {client.ended}, reset: {client.reset}, "
        f"left over: {_shown(client.responses.behind)}"
    )
    return "\n".join(lines)


def _made(settings: Settings, port: int, seed: int, numbers: Iterator[int]) -> Iterator[_Client]:
    for number in numbers:
        with contextlib.suppress(promises.ChanceError):
            yield _Client(conversation(seed, number, settings), settings, port)


def converse(settings: Settings, port: int, seed: int, numbers: Iterator[int]) -> Iterator[Mismatch]:
    """Have all conversations; yields those in which something was wrong."""
    selector = selectors.DefaultSelector()
    waiting = _made(settings, port, seed, numbers)
    active: dict[_Client, int] = {}
    more = True
    while more or active:
        while more and len(active) < _AT_ONCE:
            client = next(waiting, None)
            if client is None:
                more = False
                break
            active[client] = 0
        yield from _turn(selector, active)
    selector.close()


def _turn(selector: selectors.BaseSelector, active: dict[_Client, int]) -> Iterator[Mismatch]:
    """One step of each."""
    now = time.monotonic()
    patient = True
    for client, events in list(active.items()):
        room, over = client.go_on() if not events & selectors.EVENT_WRITE or client.ready else (True, False)
        if room and not client.reads and now - client.stamp > _QUIET:
            client.reads = True
        if not over and client.ready and client.reads:
            over = client.read()
        client.ready = False
        if over or now - client.stamp > _PATIENCE:
            if events:
                selector.unregister(client.socket)
            del active[client]
            client.socket.close()
            if kind := client.verdict():
                yield kind, client
            patient = False
            continue
        wanted = (selectors.EVENT_READ if client.reads else 0) | (selectors.EVENT_WRITE if room else 0)
        if wanted != events:
            if not events:
                selector.register(client.socket, wanted, client)
            elif not wanted:
                selector.unregister(client.socket)
            else:
                selector.modify(client.socket, wanted, client)
            active[client] = wanted
        if not room and client.step < len(client.what.steps) and isinstance(client.what.steps[client.step], Send):
            patient = False
    for key, _ in selector.select(0.0005 if patient else 0):
        key.data.ready = True
