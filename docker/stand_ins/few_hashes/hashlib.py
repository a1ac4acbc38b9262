"""The hashes that are used here; CPython's hashlib complains at its import of each that was not compiled."""

from _sha1 import sha1 as sha1  # noqa: PLC0414

from _sha2 import sha256 as sha256  # noqa: PLC0414
