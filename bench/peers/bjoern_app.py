"""A WSGI application on bjoern."""

import sys
from collections.abc import Callable
from typing import Any

import bjoern


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
    """Answer a request with its content, or with its header section where it has none."""
    content = environ["wsgi.input"].read()
    kind = environ.get("CONTENT_TYPE") or environ.get("HTTP_CONTENT_TYPE") or "application/octet-stream"
    if not content:
        kind = "text/plain"
        lines = [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ['SERVER_PROTOCOL']}"]
        lines += [
            f"{name[5:].replace('_', '-').title()}: {value}" for name, value in environ.items() if name[:5] == "HTTP_"
        ]
        content = "\r\n".join([*lines, "", ""]).encode("latin-1")
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]


bjoern.run(app, "127.0.0.1", int(sys.argv[1]), listen_backlog=4096)
