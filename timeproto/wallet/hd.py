"""Keys from words: BIP-39 phrases, and Ed25519 keys from them by SLIP-0010, m/44'/0'/account'/change'/index'.

Ed25519 derives hardened keys only, so there is no public derivation and no extended public key to hand out.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from mnemonic import Mnemonic
from slip10 import SLIP10

from timeproto.errors import ConfigurationError
from timeproto.model.address import address_of
from timeproto.model.keys import SigningKey
from timeproto.params import NetworkParams

_ENTROPY_BITS = {12: 128, 15: 160, 18: 192, 21: 224, 24: 256}
_PURPOSE = 44
_COIN_TYPE = 0
_HARDENED = 0x80000000


@cache
def _english() -> Mnemonic:
    return Mnemonic("english")


def generate_phrase(words: int = 12) -> str:
    """A new random phrase of 12, 15, 18, 21 or 24 English words."""
    if words not in _ENTROPY_BITS:
        raise ConfigurationError(f"a phrase has 12, 15, 18, 21 or 24 words, not {words}")
    return str(_english().generate(_ENTROPY_BITS[words]))


def phrase_of(entropy: bytes) -> str:
    """The phrase of 16 to 32 bytes of entropy."""
    try:
        return str(_english().to_mnemonic(entropy))
    except ValueError:
        raise ConfigurationError(f"{len(entropy)} bytes of entropy make no phrase") from None


def check_phrase(phrase: str) -> str:
    """The phrase in its one spelling; :class:`ConfigurationError` saying which word is wrong, by its place only."""
    words = unicodedata.normalize("NFKD", phrase).lower().split()
    if len(words) not in _ENTROPY_BITS:
        raise ConfigurationError(f"a phrase has 12, 15, 18, 21 or 24 words, this one has {len(words)}")
    known = set(_english().wordlist)
    for place, word in enumerate(words, 1):
        if word not in known:
            raise ConfigurationError(f"word {place} of the phrase is not on the BIP-39 list")
    normal = " ".join(words)
    if not _english().check(normal):
        raise ConfigurationError("the phrase's checksum does not fit: a word is wrong, or two are swapped")
    return normal


def seed_of(phrase: str, passphrase: str = "") -> bytes:
    """The 64-byte seed (BIP-39: PBKDF2-HMAC-SHA512, 2,048 rounds)."""
    return bytes(Mnemonic.to_seed(phrase, passphrase))


def slip10(seed: bytes, path: str) -> tuple[bytes, bytes, bytes]:
    """(private key, chain code, public key), 32 bytes each, at ``path`` such as ``m/44'/0'``; hardened steps only."""
    try:
        node = SLIP10.from_seed(seed, curve_name="ed25519").get_child_from_path(path)
    except Exception as error:
        raise ConfigurationError(f"the path {path!r} cannot be derived: {error}") from None
    # The package puts SLIP-0010's leading zero byte before an Ed25519 public key.
    return bytes(node.privkey), bytes(node.chaincode), bytes(node.pubkey)[-32:]


class Tree:
    """All keys of one seed. The part of the path that never changes is walked once."""

    def __init__(self, seed: bytes) -> None:
        path = [_PURPOSE | _HARDENED, _COIN_TYPE | _HARDENED]
        self._root = SLIP10.from_seed(seed, curve_name="ed25519").get_child_from_path(path)

    def key(self, account: int, change: int, index: int) -> SigningKey:
        """The key at m/44'/0'/account'/change'/index'; each step is below 2^31, or :class:`ConfigurationError`."""
        if not all(0 <= step < _HARDENED for step in (account, change, index)):
            # beyond it the hardened bit is set already: two numbers would name one key
            raise ConfigurationError(f"there is no key {account}'/{change}'/{index}': steps are 0 to 2^31 - 1")
        path = [step | _HARDENED for step in (account, change, index)]
        return SigningKey(bytes(self._root.get_child_from_path(path).privkey))


def derive(phrase: str, *, account: int = 0, change: int = 0, index: int = 0, passphrase: str = "") -> SigningKey:
    """One key of a phrase. For many, make a :class:`Tree`: the seed takes 2,048 rounds each time."""
    return Tree(seed_of(phrase, passphrase)).key(account, change, index)


def address(key: SigningKey, params: NetworkParams) -> str:
    """The address of a key on a network."""
    return address_of(key.public_bytes, params)
