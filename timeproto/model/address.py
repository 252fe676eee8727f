"""Addresses: ``"TIME" + digit + base58(payload ‖ checksum)`` (protocol §1).

payload = first 20 bytes of SHA-256(public key); checksum = first 4 bytes of SHA-256d(payload).
The digit is the network's; an address of another network is refused wherever it appears.
"""

from __future__ import annotations

from functools import lru_cache

import base58

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.canonical import sha256, sha256d
from timeproto.params import NetworkParams

PREFIX = "TIME"
PAYLOAD_SIZE = 20
CHECKSUM_SIZE = 4
_RAW_SIZE = PAYLOAD_SIZE + CHECKSUM_SIZE
MAX_LENGTH = 48
"""Longest text worth decoding: 5 characters and at most 33 of base58, with room for the error message."""

_NONE = 255
_DIGITS = bytes(base58.BITCOIN_ALPHABET.find(character) & _NONE for character in range(256))
"""For each character the digit it stands for, ``_NONE`` if it stands for none."""


def encode_payload(payload: bytes, params: NetworkParams) -> str:
    text = base58.b58encode(payload + sha256d(payload)[:CHECKSUM_SIZE]).decode("ascii")
    return PREFIX + params.address_digit + str(text)


@lru_cache(maxsize=65_536)
def address_of(public_key: bytes, params: NetworkParams) -> str:
    """The address of a 32-byte Ed25519 public key."""
    return encode_payload(sha256(public_key)[:PAYLOAD_SIZE], params)


@lru_cache(maxsize=65_536)
def problem_with(address: str, params: NetworkParams) -> str | None:
    """What is wrong with ``address`` on this network, in words; None if it is good."""
    if len(address) > MAX_LENGTH or not address.startswith(PREFIX):
        return "an address begins with TIME and is at most 48 characters"
    digit, text = address[len(PREFIX) : len(PREFIX) + 1], address[len(PREFIX) + 1 :]
    if digit != params.address_digit:
        return f"it belongs to another network: {params.name} addresses begin with TIME{params.address_digit}"
    digits = text.encode("ascii", "replace").translate(_DIGITS)
    if _NONE in digits:
        return "it has a character that base58 does not use"
    raw = _decode(digits)
    if raw is None:
        return "it has the wrong length or spelling"
    payload, checksum = raw[:PAYLOAD_SIZE], raw[PAYLOAD_SIZE:]
    if sha256d(payload)[:CHECKSUM_SIZE] != checksum:
        return "its checksum does not match: it was mistyped"
    return None


def _decode(digits: bytes) -> bytes | None:
    """Payload and checksum, if these digits are the one spelling of so many bytes.

    Eight times as fast as the library, which forgives white space besides: a wallet may ask for a thousand at once."""
    number = 0
    for digit in digits:
        number = number * 58 + digit
    if number >> 8 * _RAW_SIZE:
        return None
    raw = number.to_bytes(_RAW_SIZE, "big")
    # Each zero byte in front is one digit 1 in front; of what follows there is no second spelling.
    zeros, ones = len(raw) - len(raw.lstrip(b"\x00")), len(digits) - len(digits.lstrip(b"\x00"))
    return raw if zeros == ones else None


def require_address(address: str, params: NetworkParams) -> str:
    """``address`` itself, or :class:`Refusal` ``bad_address``."""
    problem = problem_with(address, params)
    if problem is not None:
        raise Refusal(ErrorCode.BAD_ADDRESS, f"the address {address[:MAX_LENGTH]!r} is not valid: {problem}")
    return address
