"""Ed25519 keys (RFC 8032), by PyNaCl everywhere: libraries disagree on edge cases, a network must not.

libsodium refuses non-canonical S, small-order and non-canonical public keys, and small-order R
(``tests/vectors/ed25519-edge.json`` holds the cases that tell libraries apart).
"""

from __future__ import annotations

import nacl.bindings
import nacl.exceptions
import nacl.utils

KEY_SIZE = 32
SIGNATURE_SIZE = 64


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True if ``signature`` (64 bytes) is ``public_key``'s (32 bytes) over ``message``. Never raises."""
    if len(public_key) != KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public_key)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


class SigningKey:
    """A private key. Its representation shows only the public half, so that no log can leak it."""

    __slots__ = ("_secret", "public_bytes", "public_hex", "seed")

    def __init__(self, seed: bytes) -> None:
        """``seed``: the 32 bytes RFC 8032 calls the private key."""
        self.seed = seed
        self.public_bytes, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.public_hex = self.public_bytes.hex()

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(nacl.utils.random(KEY_SIZE))

    def sign(self, message: bytes) -> bytes:
        """The 64-byte detached signature; the same message always gives the same bytes."""
        return nacl.bindings.crypto_sign(message, self._secret)[:SIGNATURE_SIZE]

    def __repr__(self) -> str:
        return f"<SigningKey of {self.public_hex}>"
