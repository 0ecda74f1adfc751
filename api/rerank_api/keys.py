"""API keys: how they are made, what can be one, and their digests, which are all that is ever kept.

A digest is SHA-256 without a salt: a key is 256 random bits, so there is no dictionary to try.
"""

import base64
import binascii
import hashlib
import re
import secrets
import string
from typing import Final

KEY_PREFIX: Final = "rk-"
"""Of keys that are made here, so that people and scanners for leaked secrets know one when they see it."""

DIGEST_PREFIX: Final = "sha256:"
"""Stands before a digest where a Secret may hold keys or digests."""

LONGEST_KEY: Final = 512
"""Bytes of the longest key that is accepted."""

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 43  # 43 of 62 signs are 256 bits
_KEY = re.compile(r"[!-~]+")
_DIGEST = re.compile("[0-9a-f]{64}")


class KeyFaultError(ValueError):
    """A text is neither a key nor a digest. The message says why, and repeats nothing of it."""


def make_key() -> str:
    """Make a key: 256 random bits in letters and digits, behind a prefix."""
    return KEY_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def digest_of(key: str) -> str:
    """Return a key's SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_digest(text: str) -> str:
    """Return the digest that a text in a Secret stands for: the text is a key, or `sha256:` and a digest.

    White space around it does not count, since files end with a line's end. Raises `KeyFaultError`.
    """
    text = text.strip()
    if not text:
        raise KeyFaultError("is empty: give a key, or sha256: and the key's digest")
    if text.startswith(DIGEST_PREFIX):
        digest = text.removeprefix(DIGEST_PREFIX).lower()
        if not _DIGEST.fullmatch(digest):
            raise KeyFaultError(
                "is no digest: write sha256: and 64 hexadecimal digits, as `printf %s KEY | sha256sum` prints"
            )
        return digest
    if len(text) > LONGEST_KEY:
        raise KeyFaultError(f"is longer than {LONGEST_KEY} bytes, the longest key that is accepted")
    if not _KEY.fullmatch(text):
        raise KeyFaultError(
            "cannot be a key, because it cannot travel in a header: use letters, digits and signs of ASCII, "
            "without spaces, one key in each field"
        )
    return digest_of(text)


def read_encoded(value: str) -> str:
    """Return the digest that a value of a Secret's `data` stands for: base64 of a key or of a digest.

    Raises `KeyFaultError`.
    """
    try:
        text = base64.b64decode("".join(value.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise KeyFaultError(
            "is not base64 of a key: encode it, or write it as it is under stringData"
        ) from None
    return read_digest(text)


def encoded(digest: str) -> str:
    """Write a digest as a value of a Secret's `data`; `read_encoded` reads it."""
    return base64.b64encode((DIGEST_PREFIX + digest).encode()).decode()
