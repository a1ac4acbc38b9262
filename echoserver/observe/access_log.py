"""The access log: entries are noted on the hot path, formatted in batches, and written by a thread that may block.

Nothing here waits for whoever reads the log. Lines for which there is no room are dropped, and counted.
"""

import asyncio
import os
import queue
import select
import socket
import threading

from echoserver.observe.access_lines import MAX_LINE, Entry, Json, Text

_MOST_HELD = 1 << 20  # bytes that the entries of a batch may hold, by a generous estimate
_ENTRY = 1024  # of them an entry's own, besides its head: a batch is some 1,000 entries
_MOST_WAITING = 1 << 20  # bytes that may wait for the thread

NO_ANSWER = 444
"""What is logged, as nginx does, as the status of what was reset instead of answered."""


def client_of(transport: asyncio.BaseTransport) -> tuple[str, int]:
    """Who is at the other end, as AccessLog has it; to be asked early, for after a reset the kernel does not know."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        return peer[0], peer[1]
    return "unix:" if transport.get_extra_info("socket").family == socket.AF_UNIX else "-", 0


class AccessLog:
    """The access log of one worker.

    dropped, written: lines that were dropped, and lines that the kernel has taken. What was noted is, after a flush,
    either of these or waits for the thread; after close() nothing waits.
    """

    # No locks: each number is changed by one thread only (written and _bytes_taken by the one that writes), and CPython
    # stores a slot in one go. What the other one reads is at worst old: then it believes that more waits than does.
    # _over goes from False to True, once, whoever says so.
    __slots__ = (
        "_append", "_blocks", "_bytes_handed", "_bytes_taken", "_descriptor", "_entries", "_held", "_lines",
        "_lines_handed", "_lines_refused", "_over", "_thread", "written",
    )  # fmt: skip

    def __init__(self, style: str, worker: int, descriptor: int) -> None:
        """style: text or json. worker: its number. To be made in the worker's process: threads don't survive a fork.

        Lines go to the descriptor, which stays the caller's, in writes of at most MAX_LINE bytes: a pipe takes those
        whole or not at all (PIPE_BUF in pipe(7)), so that lines of workers that share one never mix.
        """
        self._descriptor = descriptor
        self._lines = {"text": Text().lines, "json": Json(worker).lines}[style]
        self._entries: list[Entry] = []
        self._append = self._entries.append
        self._blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._held = self._bytes_handed = self._lines_handed = self._lines_refused = 0
        self._bytes_taken = self.written = 0
        self._over = False
        self._thread = threading.Thread(target=self._write_blocks, name=f"access log {worker}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._lines_refused + (self._lines_handed - self.written if self._over else 0)

    def note(self, entry: Entry) -> None:
        """Note a request that was answered, or a connection that was closed."""
        self._append(entry)
        head = entry[2]
        self._held += _ENTRY if head is None else _ENTRY + len(head)
        if self._held >= _MOST_HELD:
            self.flush()

    def flush(self) -> None:
        """Format what was noted and hand it to the thread; to be called ten times a second."""
        entries = self._entries
        if not entries:
            return
        room = 0 if self._over else _MOST_WAITING - (self._bytes_handed - self._bytes_taken)
        texts: list[str] = []
        done = 0
        # as many at a time as fit in any case: none is formatted in vain
        while done < len(entries) and (fit := room // MAX_LINE):
            text = self._lines(entries[done : done + fit])
            texts.append(text)
            room -= len(text)
            done = min(done + fit, len(entries))
        self._lines_handed += done
        self._lines_refused += len(entries) - done
        entries.clear()
        self._held = 0
        self._hand_over("".join(texts).encode("ascii"))

    def _hand_over(self, lines: bytes) -> None:
        self._bytes_handed += len(lines)
        start = 0
        while start < len(lines):
            end = lines.rfind(b"\n", start, start + MAX_LINE) + 1
            self._blocks.put(lines[start:end])
            start = end

    def close(self, patience: float) -> None:
        """Flush, and wait for the thread for so many seconds at most; what then still waits is dropped."""
        self.flush()
        self._blocks.put(None)
        self._thread.join(patience)
        self._over = True

    def _write_blocks(self) -> None:
        while (block := self._blocks.get()) is not None:
            while block and not self._over:
                block = block[self._write(block) :]

    def _write(self, block: bytes) -> int:
        """How many of the bytes the kernel has taken. An error is the end: what waits and what comes is dropped."""
        try:
            size = os.write(self._descriptor, block)
        except BlockingIOError:  # the descriptor may be shared with a process that wants it so
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll()
            return 0
        except OSError:
            self._over = True
            return 0
        self.written += block.count(b"\n", 0, size)
        self._bytes_taken += size
        return size
