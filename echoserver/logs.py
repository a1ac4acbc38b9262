"""The server's own lines on stderr: text for people, or one JSON object a line."""

import json
import logging
import os
import sys
import time

log = logging.getLogger("echoserver")


class _Json(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said = {
            "time": f"{stamp}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "pid": os.getpid(),
            "worker": self._worker, "message": record.getMessage(),
        }  # fmt: skip
        return json.dumps(said)


def configure(style: str, level: str, worker: int | None = None) -> None:
    """Have this process's lines look so: style text or json, from a level on; worker: its number, if it is one."""
    formatter = _Json(worker) if style == "json" else logging.Formatter("echoserver: %(message)s")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.raiseExceptions = False  # a stderr that is gone is no reason to stop
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(level.upper())
