"""Signatures, made and checked once for all nodes of a run: pure functions, so answers may be kept.

In a run of n masternodes every batch is checked n - 1 times. What was signed in the run is remembered, so it needs no
check, and no curve either: where Ed25519 has a signature a keyed hash of the same length stands, which nobody without
the key can make. What a liar made up is checked as Ed25519.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from nacl.bindings import (
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
)

from timeproto.consensus import verifier
from timeproto.model import block, certificate, keys, validation, vote
from timeproto.model.keys import SigningKey

CHECKING = (block, certificate, validation, verifier, vote)
"""The modules that check signatures, by the one function ``model.keys.verify``."""
_TOGETHER = "checked_together"
"""What those that check many do before; here nothing is gained by it."""


class Signatures:
    """Every signature of one run."""

    def __init__(self) -> None:
        self._made: dict[tuple[bytes, bytes], bytes] = {}
        self._checked: dict[tuple[bytes, bytes, bytes], bool] = {}
        self._verify = keys.verify

    def sign(self, key: SigningKey, message: bytes) -> bytes:
        made = self._made.get((key.public_bytes, message))
        if made is None:
            made = self._made[key.public_bytes, message] = hashlib.blake2b(message, key=key.seed).digest()
        return made

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """As :func:`timeproto.model.keys.verify`."""
        if self._made.get((public_key, message)) == signature:
            return True
        asked = public_key, message, signature
        answer = self._checked.get(asked)
        if answer is None:
            answer = self._checked[asked] = self._verify(public_key, message, signature)
        return answer

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Within, all of timeproto checks signatures here."""
        before = [dict(vars(module)) for module in CHECKING]
        for module in CHECKING:
            module.verify = self.verify  # type: ignore[attr-defined]
            if hasattr(module, _TOGETHER):
                setattr(module, _TOGETHER, nullcontext)
        try:
            yield
        finally:
            for module, names in zip(CHECKING, before, strict=True):
                module.verify = names["verify"]  # type: ignore[attr-defined]
                if hasattr(module, _TOGETHER):
                    setattr(module, _TOGETHER, names[_TOGETHER])


class Signer(SigningKey):
    """A key that signs through :class:`Signatures`, made from one whose curve arithmetic is done."""

    __slots__ = ("_signatures",)

    def __init__(self, key: SigningKey, signatures: Signatures) -> None:
        self.seed, self.public_bytes, self.public_hex, self._secret = (
            key.seed, key.public_bytes, key.public_hex, key._secret,
        )
        self._signatures = signatures

    def sign(self, message: bytes) -> bytes:
        return self._signatures.sign(self, message)

    def sign_otherwise(self, message: bytes, nonce: bytes) -> bytes:
        """Another valid signature over the same message, as any owner can make: ``nonce``, 64 bytes, stands where
        RFC 8032 has a hash."""
        secret = hashlib.sha512(self.seed).digest()[:32]
        clamped = bytes([secret[0] & 248, *secret[1:31], (secret[31] & 127) | 64])
        scalar = crypto_core_ed25519_scalar_reduce(clamped + bytes(32))
        chosen = crypto_core_ed25519_scalar_reduce(nonce)
        point = crypto_scalarmult_ed25519_base_noclamp(chosen)
        challenge = crypto_core_ed25519_scalar_reduce(hashlib.sha512(point + self.public_bytes + message).digest())
        answer = crypto_core_ed25519_scalar_add(chosen, crypto_core_ed25519_scalar_mul(challenge, scalar))
        return bytes(point + answer)
