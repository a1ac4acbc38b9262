"""An echo server for TCP, UDP, HTTP/1.1 and WebSocket that never is the slow or the surprising part."""

__version__ = "0.1.0"


def end_on_signals() -> None:
    """From now on SIGINT and SIGTERM end the process at once, with 0: nothing is served yet that would be cut.

    Without a handler Ctrl-C would be a traceback, and process 1 would not even notice (pid_namespaces(7)).
    """
    import _signal  # type: ignore[import-not-found]  # noqa: PLC0415 - signal imports enum, in 5 ms in which Ctrl-C may come
    import os  # noqa: PLC0415 - it is there already

    for number in (_signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, lambda *_: os._exit(0))
