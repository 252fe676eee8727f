"""Genesis: what every node and wallet of one network agrees on before the first payment.

Its hash stands in everything that is signed. The first coins are the outpoints ``(genesis hash, i)``, one
for each allocation.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from msgspec import Meta

from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.model.address import problem_with
from timeproto.model.canonical import I64, U32, Hex32, Noun, i64, sha256d, sized, u32, u64
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.params import GENESIS_VERSION, MAX_AMOUNT, NETWORKS, NetworkName, NetworkParams

YEAR_10000 = 253_402_300_800
"""Unix seconds; far from where milliseconds are larger than 64 bits."""


class Genesis(Noun, frozen=True, dict=True, gc=True):
    """``timestamp`` in Unix seconds, ``block_interval`` in seconds, ``masternodes`` by public key.

    ``version`` is that of the chain's rules: programs that would not agree on its blocks have no genesis in common.
    """

    version: U32
    network: NetworkName
    timestamp: I64
    block_interval: Annotated[int, Meta(ge=1, le=3_600)]
    masternodes: Annotated[tuple[Hex32, ...], Meta(min_length=1, max_length=limits.MASTERNODES)]
    allocations: Annotated[tuple[TxOutput, ...], Meta(max_length=100_000)]

    @cached_property
    def canonical(self) -> bytes:
        """u32 version ‖ sized(network) ‖ i64 timestamp ‖ u32 block_interval ‖ masternodes ‖ allocations."""
        parts = [u32(self.version), sized(self.network.encode("ascii"))]
        parts += (i64(self.timestamp), u32(self.block_interval), u32(len(self.masternodes)))
        parts += (bytes.fromhex(key) for key in self.masternodes)
        parts.append(u32(len(self.allocations)))
        for output in self.allocations:
            parts += (u64(output.amount), sized(output.address.encode("utf-8")))
        return b"".join(parts)

    @cached_property
    def hash(self) -> str:
        return sha256d(b"timeproto/genesis/v1" + self.canonical).hex()

    @cached_property
    def masternode_set(self) -> MasternodeSet:
        return MasternodeSet(self.masternodes)

    @property
    def params(self) -> NetworkParams:
        return NETWORKS[self.network]

    @cached_property
    def supply(self) -> int:
        return sum(output.amount for output in self.allocations)

    def coins(self) -> list[tuple[Outpoint, TxOutput]]:
        """The first coins, in the order of the allocations."""
        return [(Outpoint(self.hash, vout), output) for vout, output in enumerate(self.allocations)]

    def check(self) -> Genesis:
        """Itself, or :class:`ConfigurationError` naming what makes it unusable."""
        if self.version != GENESIS_VERSION:
            raise ConfigurationError(
                f"the genesis is not usable: it has version {self.version}, and this program keeps the chain's rules of"
                f" version {GENESIS_VERSION}; it needs another program, or a new chain"
            )
        if not 0 <= self.timestamp < YEAR_10000:
            raise ConfigurationError("the genesis is not usable: its time is in no year from 1970 to 9999")
        try:
            MasternodeSet(self.masternodes)
        except ValueError as error:
            raise ConfigurationError(f"the genesis is not usable: {error}") from None
        for output in self.allocations:
            problem = problem_with(output.address, self.params)
            if problem is not None:
                raise ConfigurationError(
                    f"the genesis is not usable: it pays {output.address!r}, and {problem}"
                )
        if self.supply + self.params.most_minted > MAX_AMOUNT:
            raise ConfigurationError(
                "the genesis is not usable: with what blocks mint, its allocations sum to more than 2^64 - 1"
            )
        return self
