"""An RSGI application for granian."""

from typing import Any


async def app(scope: Any, protocol: Any) -> None:
    """Answer a request with its content, or with its header section where it has none."""
    content = await protocol()
    kind = scope.headers.get("content-type", "application/octet-stream")
    if not content:
        kind = "text/plain"
        authority = [f"host: {scope.authority}"] if scope.http_version == "2" else []
        lines = [
            f"{scope.method} {scope.path} HTTP/{scope.http_version}",
            *authority,
            *(f"{name}: {value}" for name, value in scope.headers.items()),
        ]
        content = "\r\n".join([*lines, "", ""]).encode()
    protocol.response_bytes(200, [("content-type", kind)], content)
