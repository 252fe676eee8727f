"""Ed25519 signatures eight at a time, where the processor has lanes for them (AVX-512 with IFMA).

Intel's crypto_mb checks eight in the time of two, and is there if ``timeproto[fast]`` is installed. libsodium stays the
judge (model.keys): of crypto_mb nothing but a *yes* counts, and only where libsodium could say nothing else. Both
compare R with [S]B - [h]A byte for byte. What libsodium refuses before that (RFC 8032: an S not below the order of the
group, points of small order, a second encoding of any) is looked for here; whatever looks like it, and every *no*, is
libsodium's to answer. So a network may mix machines with lanes and without.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import nacl.bindings

LANES = 8
LIBRARY = "libcrypto_mb.so"
PACKAGE = "ipp-crypto"
COMPANY = ("libintlc.so.5", "libimf.so", "libirng.so", "libsvml.so")
"""The run-time of the library's maker. Nothing in it is called, but it has to be there, and loaded before."""
COMPANY_PACKAGE = "intel-cmplr-lib-rt"

Signed = tuple[bytes, bytes, bytes]
"""A public key (32 bytes), a message, and a signature (64 bytes)."""

_SAFE = 0x10
"""An S whose last byte is below this is below 2^252, and so below the order. Of honest ones one in 2^126 is not."""
_HIGHEST = b"\xff" * 30
"""What stands in the middle of any y from 2^255 - 256 on: those that are not below the prime are among them, and that
of the point of order 2."""

_Pointers = ctypes.c_char_p * LANES
_Lengths = ctypes.c_uint32 * LANES


def _encodings() -> frozenset[bytes]:
    """Of the points of order 1, 4 and 8, with either sign."""
    eighth = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
    other = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    points = [bytes(32), b"\x01" + bytes(31), bytes.fromhex(eighth), bytes.fromhex(other)]
    return frozenset(point[:31] + bytes([point[31] | sign]) for point in points for sign in (0, 0x80))


_SMALL = _encodings()


def is_plain(signed: Signed) -> bool:
    """False for anything whose judgement is a matter of rules beyond the equation: it is nobody's honest signature."""
    key, _, signature = signed
    if len(key) != 32 or len(signature) != 64 or signature[63] >= _SAFE:
        return False
    point = signature[:32]
    return not (key in _SMALL or point in _SMALL or _is_high(key) or _is_high(point))


def _is_high(point: bytes) -> bool:
    return point[1:31] == _HIGHEST and point[31] | 0x80 == 0xFF


def are_here() -> bool:
    return _library()[0] is not None


def account() -> str:
    """How signatures are checked here, in words."""
    check, why_not = _library()
    return f"one by one: {why_not}" if check is None else f"{LANES} at a time"


def hold(group: Sequence[Signed]) -> list[bool]:
    """To which of one to eight plain ones crypto_mb says yes; to none where it is not."""
    check, _ = _library()
    return [False] * len(group) if check is None else _run(check, group)


def _run(check: Any, group: Sequence[Signed]) -> list[bool]:
    keys, messages, signatures = zip(*group, *[group[0]] * (LANES - len(group)), strict=True)
    status = check(
        _Pointers(*[signature[:32] for signature in signatures]),
        _Pointers(*[signature[32:] for signature in signatures]),
        _Pointers(*messages),
        _Lengths(*map(len, messages)),
        _Pointers(*keys),
    )
    return [not status >> 4 * lane & 0xF for lane in range(len(group))]  # four bits for each, 0: it holds


@cache
def _library() -> tuple[Any | None, str]:
    """The function; or None, and why there is none that works."""
    try:
        for name in COMPANY:
            ctypes.CDLL(_path(COMPANY_PACKAGE, name))
        check = ctypes.CDLL(_path(PACKAGE, LIBRARY)).mbx_ed25519_verify_mb8
    except PackageNotFoundError as error:
        return None, f"{error.name} is not installed (it is among timeproto[fast], for Linux on x86-64)"
    except Exception as error:  # among them whatever a list of files that is broken comes up with
        return None, f"the library for more cannot be used: {error}"
    check.restype = ctypes.c_uint32
    check.argtypes = [_Pointers, _Pointers, _Pointers, _Lengths, _Pointers]
    return (check, "") if _works(check) else (None, "this processor has no AVX-512 IFMA")


def _path(package: str, name: str) -> str:
    found = [file for file in distribution(package).files or () if file.name == name]
    if not found:
        raise OSError(f"{package} has no {name}")
    path: Any = found[0].locate()
    if path.stat().st_size != found[0].size:  # to load a library that was cut off ends the process (SIGBUS)
        raise OSError(f"{path} has not the size it was installed with")
    return str(path)


def _works(check: Any) -> bool:
    """Whether each lane says yes to a signature and no to another's: on a processor without them all say no."""
    signed = []
    for number in range(LANES):
        key, secret = nacl.bindings.crypto_sign_seed_keypair(bytes([number]) * 32)
        message = bytes([number]) * number
        signed.append((key, message, nacl.bindings.crypto_sign(message, secret)[:64]))
    if not all(_run(check, signed)):
        return False
    for lane, (key, message, signature) in enumerate(signed):
        wrong = [*signed[:lane], (key, message + b"\x00", signature), *signed[lane + 1 :]]
        if _run(check, wrong) != [each != lane for each in range(LANES)]:
            return False
    return True
