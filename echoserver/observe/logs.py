"""The server's own lines on stderr: text for people, or one JSON object a line."""

import json
import logging
import os
import sys
import time
from typing import TextIO

log = logging.getLogger("echoserver")


class _Json(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said = {
            "time": f"{when}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "pid": os.getpid(),
            "worker": self._worker, "message": record.getMessage(),
        }  # fmt: skip
        return json.dumps(said)


class _Stderr(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's
        """Nobody reads stderr any more: no reason to stop, nor to end with an error for what it has not written."""
        sys.stderr = None


def configure(style: str, level: str, worker: int | None = None) -> None:
    """Have this process's lines look so: style text or json, from a level on; worker: its number, if it is one."""
    formatter = _Json(worker) if style == "json" else logging.Formatter("echoserver: %(message)s")
    handler = _Stderr(sys.stderr)
    handler.setFormatter(formatter)
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(level.upper())


def reason(error: BaseException) -> str:
    """Why something could not be, for a line: the system's words, in lower case."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "out of memory" if isinstance(error, MemoryError) else str(error).lower()
