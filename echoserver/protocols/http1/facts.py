"""What the server knows of a connection and of itself, for the description of a request (?echo=json)."""

import socket
from typing import Any

from echoserver.answers.description import moment
from echoserver.config.values import unix_path
from echoserver.observe.access_log import client_of
from echoserver.protocols.http1.content import Exchange


def facts(connection: Exchange, when: float) -> dict[str, Any]:
    """What is known of a connection, and of the server, for a description of a request that came at a time."""
    context, transport = connection.context, connection.transport
    said: dict[str, Any] = {
        "client": _address(connection.origin.peer or client_of(transport)),
        "server": _address(transport.get_extra_info("sockname")),
        "tls": _tls(transport.get_extra_info("ssl_object")),
        "proxy": None,
        "worker": context.number,
        "host": socket.gethostname(),
        "received_at": moment(when),
        **connection.facts(),
    }
    proxied = connection.origin.preamble
    if proxied is not None:
        said["proxy"] = {
            "version": proxied.version,
            "source": _address(proxied.source),
            "destination": _address(proxied.destination),
        }
    if connection.site.kubernetes:
        said["kubernetes"] = connection.site.kubernetes
    return said


def _address(address: Any) -> dict[str, Any] | None:
    """An IP address and port, or the path of a unix socket, or the @name of an abstract one."""
    if isinstance(address, tuple) and address[0] != "unix:":
        return {"address": address[0], "port": address[1]}
    return None if address is None else {"path": unix_path(address) if isinstance(address, str | bytes) else ""}


def _tls(ssl_object: Any) -> dict[str, Any] | None:
    if ssl_object is None:
        return None
    from echoserver.layers import tls_context as tls  # noqa: PLC0415 - few want it

    certificate, cipher = ssl_object.getpeercert(), ssl_object.cipher()
    return {
        "version": ssl_object.version(),
        "cipher": cipher and cipher[0],
        "server_name": tls.server_name(ssl_object),
        "alpn": ssl_object.selected_alpn_protocol(),
        "client_subject": tls.subject(certificate).decode() if certificate else None,
    }
