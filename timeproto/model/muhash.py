"""MuHash3072: one hash for a set, whatever the order of its members (protocol §6).

Each member is a number modulo the prime 2^3072 - 1103717; the set is their product, so a member is added with one
multiplication (by GMP, 1.4 µs instead of Python's 7) and taken out with one division. As hard to forge as discrete
logarithms in that group (Bellare and Micciancio, EUROCRYPT 1997; the numbers are those Bitcoin Core uses, and its
published vector is among the tests).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from gmpy2 import invert, mpz

from timeproto.model.canonical import sha256

BITS = 3072
GAP = 1103717
MODULUS = 2**BITS - GAP
SIZE = BITS // 8
_ONE, _LOW = mpz(1), mpz(2**BITS - 1)
_ZEROES = bytes(SIZE)
KEY_SIZE = 32
_ANSWER = "14f3fcd05b4e5df75dad4131d0d1c4d3c860fcda8806a1991d24deb9626ff65f"
"""SHA-256 of the key stream under SHA-256("a key")."""


def stream_of_cryptography(key: bytes) -> bytes:
    """The first :data:`SIZE` bytes of ChaCha20's key stream, its nonce and counter 0."""
    return Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(_ZEROES)


def stream_of_libsodium() -> Callable[[bytes], bytes] | None:
    """The same in half of the time: `cryptography` makes a cipher for each key, libsodium needs none. PyNaCl, which
    brings it, has no name for this function of it; None where that cannot be reached, or is another.

    The call keeps the interpreter's lock: it takes a microsecond; to give that away beside a busy thread takes ten."""
    try:
        import_module("nacl.bindings")  # then libsodium chooses its code for this processor, and that is what is tried
        fill = ctypes.PyDLL(import_module("nacl._sodium").__file__).crypto_stream_chacha20
    except (ImportError, OSError, AttributeError):
        return None
    fill.argtypes = [ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_char_p, ctypes.c_char_p]
    room, nonce = ctypes.c_char * SIZE, bytes(8)

    def stream(key: bytes) -> bytes:
        if len(key) != KEY_SIZE:
            raise ValueError(f"a key of {len(key)} bytes")
        drawn = room()
        fill(drawn, SIZE, nonce, key)
        return drawn.raw

    return stream if sha256(stream(sha256(b"a key"))).hex() == _ANSWER else None


_stream = stream_of_libsodium() or stream_of_cryptography


@lru_cache(maxsize=4_096)  # change is often spent again soon after it was made
def number_of(member: bytes) -> mpz:
    """The number of one member: the first 384 bytes of ChaCha20 under the key SHA-256(member), little-endian."""
    return mpz.from_bytes(_stream(sha256(member)), "little")


def product(members: Iterable[bytes]) -> mpz:
    """The members' numbers multiplied, see :func:`multiply`."""
    return multiply(map(number_of, members))


def multiply(numbers: Iterable[mpz]) -> mpz:
    """The product of numbers below 2^3072; congruent modulo :data:`MODULUS`, not always below it."""
    rest = iter(numbers)
    total = next(rest, _ONE)
    for number in rest:
        total *= number
        while total > _LOW:  # 2^3072 is GAP modulo the prime: two short products instead of a long division
            total = (total >> BITS) * GAP + (total & _LOW)
    return total


class MuHash:
    """An immutable set, known only by its product. The empty set is 1."""

    __slots__ = ("_product",)

    def __init__(self, value: int = 1) -> None:
        self._product: int = value % MODULUS

    def replace(self, *, added: Iterable[bytes] = (), removed: Iterable[bytes] = ()) -> MuHash:
        """The set with and without these members; that they were out of it or in it, nobody checks."""
        return self.move(product(added), product(removed))

    def move(self, added: mpz, removed: mpz) -> MuHash:
        """The same, for products of members. A member of both cancels out."""
        return MuHash(int(self._product * added * invert(removed, MODULUS) % MODULUS))

    @property
    def value(self) -> int:
        """The product itself: below :data:`MODULUS`, and all there is to keep."""
        return self._product

    @property
    def digest(self) -> str:
        """SHA-256 of the 384 bytes of the product, little-endian; hex in byte order."""
        return sha256(self._product.to_bytes(SIZE, "little")).hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MuHash) and self._product == other._product

    def __hash__(self) -> int:
        return hash(self._product)

    def __repr__(self) -> str:
        return f"<MuHash {self.digest[:8]}>"
