"""Canonical bytes: the one binary form of everything that is hashed or signed (protocol §1, §2).

Little-endian, fixed-width integers; byte strings behind a u32 length. Nothing here depends on JSON.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeVar

from msgspec import Meta, Struct

Hex32 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", description="32 bytes, lower-case hex")]
Hex64 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{128}\Z", description="64 bytes, lower-case hex")]
#: Half-declared, for a noun that holds many: a pattern costs half a microsecond for each, :func:`are_hex` for all.
HalfHex32 = Annotated[str, Meta(min_length=64, max_length=64, extra_json_schema={"pattern": r"\A[0-9a-f]{64}\Z"})]
HalfHex64 = Annotated[str, Meta(min_length=128, max_length=128, extra_json_schema={"pattern": r"\A[0-9a-f]{128}\Z"})]
U8 = Annotated[int, Meta(ge=0, le=2**8 - 1)]
U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
I64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
#: Half-declared: msgspec cannot bound above 2^63 - 1, so a class with such a field calls `require_u64`.
U64 = Annotated[int, Meta(ge=0)]

T = TypeVar("T")

u32 = struct.Struct("<I").pack
u64 = struct.Struct("<Q").pack
i64 = struct.Struct("<q").pack


class Noun(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Base of every noun that travels: immutable, compared by value, unknown fields refused.

    None holds itself, so the garbage collector need not look at them: a quarter of a busy node's time went there.
    """


def require_u64(name: str, value: int) -> None:
    if value > 2**64 - 1:
        raise ValueError(f"{name} is larger than 2^64 - 1")


def sized(data: bytes) -> bytes:
    """A byte string behind its u32 length."""
    return u32(len(data)) + data


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


@lru_cache(maxsize=64)
def domain(what: str, genesis_hash: str) -> bytes:
    """The prefix of everything signed: no signature serves two purposes or two networks (protocol §1)."""
    return b"timeproto/%s/v1" % what.encode("ascii") + bytes.fromhex(genesis_hash)


class lazy(Generic[T]):  # noqa: N801 - it stands where cached_property did
    """A property that is made once, when first asked for, in a class whose instances have a ``__dict__``.

    ``functools.cached_property`` takes a lock before Python 3.12, one for all instances: it takes three times as long,
    and the thread that verifies would hold up the reactor.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, noun: Any, owner: type) -> T:
        value = noun.__dict__[self._name] = self._make(noun)
        return value


_HEX_DIGITS = b"0123456789abcdef"


def are_hex(texts: Iterable[str]) -> bool:
    """True if all of them have nothing but the digits of lower-case hex. Their lengths are somebody else's question."""
    return not "".join(texts).encode("utf-8", "surrogatepass").translate(None, _HEX_DIGITS)


def texts(digests: bytes) -> list[str]:
    """Digests of 32 bytes that lie end to end, each in hex; :class:`ValueError` if half of one is missing."""
    text = digests.hex()
    if len(text) % 64:
        raise ValueError("half a digest is missing")
    return [text[at : at + 64] for at in range(0, len(text), 64)]


def is_hex(value: Any, length: int) -> bool:
    """True for exactly ``length`` bytes in lower-case hex."""
    return (
        isinstance(value, str) and len(value) == 2 * length and not (set(value) - set("0123456789abcdef"))
    )
