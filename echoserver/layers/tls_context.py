"""TLS contexts made of files, as the field recommends them, and who a client is by its certificate."""

import contextlib
import importlib
import re
import ssl
import sys
from collections.abc import Iterator
from typing import Any

from echoserver.config.options import Config
from echoserver.config.values import CannotLoad

# Mozilla's "intermediate" (version 5.7) but for its DHE suites, which need parameters and have no client left that
# needs them: TLS 1.3's own suites, and these of TLS 1.2; the client's order counts, for it knows its hardware
_CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
_GROUPS = "X25519:P-256:P-384"
"""Those of the same list for key exchange, in OpenSSL's names; its default has X448, P-521 and ffdhe groups too."""
_SET_GROUPS_LIST = 92  # SSL_CTRL_SET_GROUPS_LIST (openssl/ssl.h)
_TICKETS = 1
"""Session tickets that a client of TLS 1.3 gets in a new session, as in a resumed one; OpenSSL's default is 2."""
_TOO_WEAK = {
    "EE_KEY_TOO_SMALL": "the certificate's key is too small",
    "CA_KEY_TOO_SMALL": "the key of a CA certificate in it is too small",
    "CA_MD_TOO_WEAK": "a certificate in it is signed with a hash that is too weak",
}
"""What OpenSSL's security level has against certificates, by its reason."""
_SHORT = {  # RFC 4514 section 3
    "commonName": "CN", "localityName": "L", "stateOrProvinceName": "ST", "organizationName": "O",
    "organizationalUnitName": "OU", "countryName": "C", "streetAddress": "STREET", "domainComponent": "DC",
    "userId": "UID",
}  # fmt: skip


def available() -> bool:
    """Whether there is TLS: images that are called minimal do without."""
    return bool(getattr(ssl, "HAS_TLSv1_2", False))


def contexts(config: Config) -> dict[str, ssl.SSLContext]:
    """A context for each of the protocols https and tls that are served. Raises CannotLoad.

    What is made before workers are forked is common to them, the key of session tickets included: a client may resume
    its session with any.
    """
    if not available():
        raise CannotLoad("--https, --tls: there is no TLS in this build")
    http = ["h2", "http/1.1"] if config.http2 else ["http/1.1"]
    alpn: dict[str, list[str]] = {"https": http, "tls": [], "any": http}
    wanted = [name for name in alpn if getattr(config, name) is not None and (name != "any" or config.tls_cert)]
    return {name: _context(config, alpn[name]) for name in wanted}


def _context(config: Config, alpn: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    _set_groups(context)
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.sni_callback = _note_server_name
    context.num_tickets = _TICKETS
    if alpn:
        context.set_alpn_protocols(alpn)
    _load_certificate(context, str(config.tls_cert), config.tls_key)
    if config.tls_client_ca:
        with _reading("--tls-client-ca", config.tls_client_ca):
            context.load_verify_locations(config.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _set_groups(context: ssl.SSLContext) -> None:
    """Offer _GROUPS; where neither way is open, which is so in a static executable, OpenSSL's default stands.

    SSLContext.set_groups() came with Python 3.15; set_ecdh_curve() takes a single group. So OpenSSL is called directly:
    what it knows of the context is the first member of CPython's object (Modules/_ssl.c, 3.11 to 3.14).
    """
    if sys.version_info >= (3, 15):
        context.set_groups(_GROUPS)
    elif sys.implementation.name == "cpython":
        with contextlib.suppress(ImportError, AttributeError, OSError):  # no ctypes, or no library to look it up in
            # not by a statement: the static executable would be built with them, and can't
            ctypes, module = importlib.import_module("ctypes"), importlib.import_module("_ssl")
            control = ctypes.CDLL(module.__file__).SSL_CTX_ctrl
            control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
            its = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
            control(its, _SET_GROUPS_LIST, 0, _GROUPS.encode())


def _note_server_name(ssl_object: Any, name: str | None, _: ssl.SSLContext) -> None:
    """The ssl module tells a server nowhere else."""
    ssl_object.server_name = name


def server_name(ssl_object: Any) -> str | None:
    """The name that the client has asked for (SNI), None without."""
    return getattr(ssl_object, "server_name", None)


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    encrypted = []

    def password() -> bytes:  # else OpenSSL would ask the terminal
        encrypted.append(True)
        return b""

    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        if path:
            with _reading(option, path), open(path, "rb"):
                pass
    option, path = ("--tls-key", key) if key else ("--tls-cert", certificate)
    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        if encrypted:
            raise CannotLoad(f"{option} {path}: the key is encrypted: expected one without a passphrase") from None
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CannotLoad(f"{option} {path}: the key does not match the certificate in {certificate}") from None
        if error.reason in _TOO_WEAK:
            raise CannotLoad(f"--tls-cert {certificate}: {_TOO_WEAK[error.reason]}") from None
        with _reading("--tls-cert", certificate):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
        raise CannotLoad(f"{option} {path}: there is no private key in it (PEM), or it is broken") from None
    except OSError as error:
        raise CannotLoad(f"{option} {path}: {(error.strerror or str(error)).lower()}") from None


@contextlib.contextmanager
def _reading(option: str, path: str) -> Iterator[None]:
    """Turns what may go wrong while a file is read into CannotLoad."""
    try:
        yield
    except ssl.SSLError:
        raise CannotLoad(f"{option} {path}: there is no certificate in it (PEM), or it is broken") from None
    except OSError as error:
        raise CannotLoad(f"{option} {path}: {(error.strerror or str(error)).lower()}") from None


def subject(certificate: dict[str, Any]) -> bytes:
    """Whom a certificate, as SSLObject.getpeercert() gives it, is for: as RFC 4514 writes it, in printable ASCII."""
    names = [
        "+".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in each)
        for each in reversed(certificate.get("subject", ()))
    ]
    return ",".join(names).encode("ascii")


def _escaped(value: str) -> str:
    """RFC 4514 section 2.4; whatever is not printable ASCII is written as the hexadecimal digits of its UTF-8."""
    escaped = re.sub(r'([\\"+,;<>])', r"\\\1", value)
    if escaped.startswith(("#", " ")):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and len(value) > 1:
        escaped = escaped[:-1] + "\\ "
    return "".join(
        each if " " <= each <= "~" else "".join(f"\\{byte:02X}" for byte in each.encode("utf-8", "surrogatepass"))
        for each in escaped
    )
