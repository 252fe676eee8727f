"""What differs between mainnet, testnet and devnet (protocol §1, §6)."""

from __future__ import annotations

from typing import Literal

import attrs

COIN = 10**8
"""Smallest units in 1 TIME."""

MAX_AMOUNT = 2**64 - 1

PROTOCOL_VERSION = 1
GENESIS_VERSION = 2
"""Of the rules of the chain: no program takes a genesis of other rules."""

NetworkName = Literal["mainnet", "testnet", "devnet"]


@attrs.frozen(cache_hash=True)  # it is hashed with every address that is looked up
class NetworkParams:
    """Amounts in smallest units, times in seconds.

    ``fee_per_kilobyte`` is the least fee for each started 1,000 bytes of a transaction's canonical encoding. The
    first subsidies are ``first_subsidy``, half of it after ``halving`` of them, and so on.
    """

    name: NetworkName
    address_digit: str
    port: int
    block_interval: int
    dust: int = 1_000
    fee_per_kilobyte: int = 1_000
    first_subsidy: int = COIN
    halving: int = 2_100_000

    def minimum_fee(self, canonical_size: int) -> int:
        """The least fee of a transaction whose canonical encoding has ``canonical_size`` bytes."""
        return self.fee_per_kilobyte * -(-canonical_size // 1_000)

    def subsidy(self, number: int) -> int:
        """What the block mints that has the subsidy ``number`` (from 1)."""
        return self.first_subsidy >> ((number - 1) // self.halving)

    @property
    def most_minted(self) -> int:
        """More than all blocks together will ever mint."""
        return 2 * self.first_subsidy * self.halving


NETWORKS: dict[str, NetworkParams] = {
    "mainnet": NetworkParams("mainnet", "1", 24000, 600),
    "testnet": NetworkParams("testnet", "0", 24050, 60),
    "devnet": NetworkParams("devnet", "0", 24100, 5),
}
