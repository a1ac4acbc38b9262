"""An echo server for TCP, UDP, HTTP/1.1 and WebSocket that never is the slow or the surprising part."""

__version__ = "0.1.0"
