"""An echo server for TCP, UDP and HTTP/1.1 that never is the slow or the surprising part."""

__version__ = "0.1.0"
