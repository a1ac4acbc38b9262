"""An ASGI application for uvicorn and hypercorn."""

from collections.abc import Awaitable, Callable
from typing import Any

Event = dict[str, Any]


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
) -> None:
    """Answer a request with its content, or with its header section where it has none."""
    if scope["type"] != "http":
        return
    parts, more = [], True
    while more:
        event = await receive()
        parts.append(event.get("body", b""))
        more = event.get("more_body", False)
    content = b"".join(parts)
    kind = b"text/plain"
    if content:
        kind = dict(scope["headers"]).get(b"content-type", b"application/octet-stream")
    else:
        line = f"{scope['method']} {scope['path']} HTTP/{scope['http_version']}".encode()
        content = b"\r\n".join([line, *(name + b": " + value for name, value in scope["headers"]), b"", b""])
    fields = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": content})
