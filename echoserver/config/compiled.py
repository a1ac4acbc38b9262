"""The module _echoserver, of compiled.c: what Python does too, and slower."""

import os
from types import ModuleType

_INTERFACE = 3
"""What compiled.c says that it is: another number for each change of what a function takes or gives."""


def _import() -> ModuleType | None:
    if os.environ.get("ECHOSERVER_NO_EXTENSIONS"):
        return None
    try:
        import _echoserver  # noqa: PLC0415 - it need not be there
    except ImportError:
        return None
    # of another version of the server, where this one is that of a checkout
    return _echoserver if getattr(_echoserver, "INTERFACE", 0) == _INTERFACE else None


functions = _import()
"""None where it was not compiled when the server was installed, or is not wanted."""
