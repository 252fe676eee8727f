"""Ed25519 keys (RFC 8032), by PyNaCl everywhere: libraries disagree on edge cases, a network must not.

libsodium refuses non-canonical S, small-order and non-canonical public keys, and small-order R
(``tests/vectors/ed25519-edge.json`` holds the cases that tell libraries apart). Where many signatures come together and
the processor can check eight at a time, another library does, and says what libsodium would (model.lanes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import compress

import nacl.bindings
import nacl.exceptions
import nacl.utils

from timeproto.model import lanes
from timeproto.model.lanes import Signed

KEY_SIZE = 32
SIGNATURE_SIZE = 64

FEWEST = 3
"""Eight at a time take as long as two one by one."""

_held: set[Signed] = set()
"""What is known to hold, while somebody is in :func:`checked_together`."""


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True if ``signature`` (64 bytes) is ``public_key``'s (32 bytes) over ``message``. Never raises."""
    if _held and (public_key, message, signature) in _held:
        return True
    if len(public_key) != KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public_key)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def checked_together(signed: Iterable[Signed]) -> AbstractContextManager[None]:
    """Within, :func:`verify` says what it says anyway, and need not look at those of ``signed`` that were found to hold
    together. Where the processor cannot check several at once, nothing is done ahead."""
    if isinstance(signed, list | tuple) and len(signed) < FEWEST:
        return _ALONE  # as of most payments; and a wallet with one signature to check loads no library for it
    return _together(signed)


_ALONE = nullcontext()


@contextmanager
def _together(signed: Iterable[Signed]) -> Iterator[None]:
    found = _found_to_hold(signed) - _held
    _held.update(found)
    try:
        yield
    finally:
        _held.difference_update(found)  # another thread that counted on them looks for itself


def _found_to_hold(signed: Iterable[Signed]) -> set[Signed]:
    found = set[Signed]()
    if not lanes.are_here():
        return found
    plain = list(dict.fromkeys(filter(lanes.is_plain, signed)))  # copies, which anybody can send, take no lane
    with suppress(Exception):  # each is looked at alone, then: what is only faster must not cost a node its step
        for at in range(0, len(plain), lanes.LANES):
            group = plain[at : at + lanes.LANES]
            if len(group) >= FEWEST:
                found.update(compress(group, lanes.hold(group)))
    return found


class Remembered:
    """Signatures that were found to hold, the newest ``most`` of them: looked for here, and checked if they are new.

    One signature is for a whole batch of votes, or for a block: whoever is shown many proofs meets it in all of them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[Signed, None] = {}

    def new(self, signed: Iterable[Signed]) -> list[Signed]:
        """Those that are not remembered."""
        return [each for each in signed if each not in self._held]

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """What :func:`verify` says."""
        same = public_key, message, signature
        if same in self._held:
            return True
        if not verify(*same):
            return False
        self._held[same] = None
        if len(self._held) > self._most:
            del self._held[next(iter(self._held))]
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
