"""What a run starts from, the same for every seed: keys, genesis, founded stores."""

from __future__ import annotations

from functools import lru_cache

import attrs

from timeproto.consensus.replica import found
from timeproto.model.address import address_of
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import TxOutput
from timeproto.params import COIN, GENESIS_VERSION, NETWORKS
from timeproto.storage.memory import MemoryStore

PARAMS = NETWORKS["devnet"]
WALLETS = 6
COINS = 6
"""Coins of 10 TIME that each wallet begins with."""

_FIRST_WALLET = 1_000


@attrs.frozen
class Setting:
    """``masternodes`` and ``wallets`` are keys, the former in the order of the set; ``founded`` is to be copied."""

    genesis: Genesis
    masternodes: tuple[SigningKey, ...]
    wallets: tuple[SigningKey, ...]
    founded: MemoryStore


def key(number: int) -> SigningKey:
    """A key for each number, the same in every run."""
    return SigningKey(number.to_bytes(32, "big"))


def address(owner: SigningKey) -> str:
    return address_of(owner.public_bytes, PARAMS)


@lru_cache(maxsize=16)
def setting(masternodes: int, block_interval: int) -> Setting:
    """``block_interval`` in seconds."""
    voters = sorted((key(number + 1) for number in range(masternodes)), key=lambda each: each.public_hex)
    wallets = tuple(key(_FIRST_WALLET + number) for number in range(WALLETS))
    genesis = Genesis(
        version=GENESIS_VERSION,
        network="devnet",
        timestamp=0,
        block_interval=block_interval,
        masternodes=tuple(voter.public_hex for voter in voters),
        allocations=tuple(TxOutput(10 * COIN, address(wallet)) for wallet in wallets for _ in range(COINS)),
    )
    store = MemoryStore()
    founding = found(store, genesis)
    if founding is not None:
        store.commit(founding)
    return Setting(genesis, tuple(voters), wallets, store)
