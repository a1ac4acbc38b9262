"""What uvloop (0.23.0) and asyncio take from ssl when they are imported; there is no TLS."""

HAS_TLSv1_2 = False
SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE, SSL_ERROR_SYSCALL = 2, 3, 5


class SSLError(OSError):
    pass


class SSLWantReadError(SSLError):
    pass


class SSLWantWriteError(SSLError):
    pass


class SSLSyscallError(SSLError):
    pass


class SSLZeroReturnError(SSLError):
    pass


class CertificateError(SSLError, ValueError):
    pass


class SSLContext:
    def __init__(self, *_: object) -> None:
        raise RuntimeError("this build has no TLS")


class MemoryBIO(SSLContext):
    pass


class SSLSocket(SSLContext):
    pass


def create_default_context() -> SSLContext:
    return SSLContext()
