"""Host names in ASCII: all that config.hostname() lets through. CPython's own needs unicodedata, of 1.1 MB."""

import codecs


def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    labels = text.encode("ascii").split(b".")
    for number, label in enumerate(labels, 1):
        if len(label) > 63 or (not label and number < len(labels)):
            raise UnicodeEncodeError("idna", text, 0, len(text), "label empty or too long")
    return b".".join(labels), len(text)


def decode(data: bytes, errors: str = "strict") -> tuple[str, int]:
    return bytes(data).decode("ascii"), len(data)


def getregentry() -> codecs.CodecInfo:
    return codecs.CodecInfo(encode, decode, name="idna")
