"""The TLS contexts that a server needs: read at its start, and again at each reload."""

from typing import TYPE_CHECKING

from echoserver.config import options as config

if TYPE_CHECKING:
    import ssl


def contexts(settings: config.Config) -> "dict[str, ssl.SSLContext]":
    """The TLS contexts that are needed. Raises CannotLoad."""
    over_tls = settings.https or settings.tls or (settings.any and settings.tls_cert)
    if not over_tls:
        return {}
    from echoserver.layers import tls_context as tls  # noqa: PLC0415 - it is not needed otherwise

    return tls.contexts(settings)
