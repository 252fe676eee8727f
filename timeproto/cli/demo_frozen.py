"""The demo's last chapter: one coin, two payments, half of the masternodes each; what a block makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timeproto.errors import ErrorCode, Refusal

TRIES = 5
"""Coins that are spent twice until one is frozen: now and then one of the two payments wins."""
PATIENCE = 30.0
"""Seconds for the blocks that end two rivals: two or three of them, on a machine that has other work too."""


class FrozenCoin:
    """Bob spends his own coin twice at the same moment; afterwards he can spend it once."""

    def __init__(
        self, reactor: Any, devnet: Any, must: Callable[[bool, str], None], say: Callable[[str], None]
    ) -> None:
        self._reactor = reactor
        self._devnet = devnet
        self._must = must
        self._say = say

    async def tell(self) -> None:
        from timeproto.wallet.client import WalletClient

        genesis = self._devnet.layout.genesis
        clients = [WalletClient(self._reactor, genesis, [address]) for address in self._devnet.addresses]
        for client in clients:
            client.startService()
        try:
            for client in clients:
                await client.when_connected()
            self._say("Now Bob signs two payments of one of his coins, and hands each to half of them, all at once:")
            for coin in self._coins()[:TRIES]:
                if await self._freeze(clients, coin):
                    return
            self._must(False, f"one of {TRIES} coins was frozen")
        finally:
            for client in clients:
                await client.stopService()

    def _coins(self) -> list[Any]:
        from timeproto.wallet.coins import WalletCoin

        layout = self._devnet.layout
        mine = self._owner()[1]
        return [
            WalletCoin(outpoint, output.amount, output.address)
            for outpoint, output in layout.genesis.coins()
            if output.address == mine
        ]

    def _owner(self) -> tuple[Any, str]:
        from timeproto.wallet import hd

        layout = self._devnet.layout
        key = hd.derive(layout.phrase("bob"))
        return key, hd.address(key, layout.genesis.params)

    def _payment(self, coin: Any, timestamp: int) -> Any:
        from timeproto.model.transaction import TxOutput
        from timeproto.wallet import builder
        from timeproto.wallet.coins import Selection

        genesis = self._devnet.layout.genesis
        key, mine = self._owner()
        fee = builder.fee_for(1, 1, genesis.params)
        return builder.build(
            Selection(coins=(coin,), fee=fee, change=0),
            [TxOutput(coin.amount - fee, mine)],
            change_address=None,
            keys={mine: key},
            genesis=genesis,
            timestamp=timestamp,
        )

    async def _freeze(self, clients: list[Any], coin: Any) -> bool:
        """False if one of the two payments won, which is fair too."""
        from twisted.internet.defer import DeferredList, ensureDeferred

        pair = [self._payment(coin, timestamp) for timestamp in (1, 2)]
        began = self._reactor.seconds()
        sent = [ensureDeferred(_hand_in(client, pair[at % 2])) for at, client in enumerate(clients)]
        await DeferredList(sent, fireOnOneErrback=True)
        state = await self._state(clients[0], coin)
        why = ": neither has a quorum" if state == "Locked" else ""
        self._say(f"  after {(self._reactor.seconds() - began) * 1000:.0f} ms the coin is {state}{why}")
        ends = await self._ends(clients[0], pair)
        if not ends:
            self._say("  this time one of the two has won, and the other is refused: another coin, then.")
            return False
        took = self._reactor.seconds() - began
        heights = sorted({end.height for end in ends})
        self._say(
            f"  after {took:.1f} s block {' and '.join(map(str, heights))} has aborted both, by the abort votes of a"
            " quorum: proven and checked"
        )
        state = await self._state(clients[-1], coin)
        self._must(state == "Unspent", "the coin is free again")
        self._say(f"  the coin is {state}. Bob pays with it again, once:")
        proof = await clients[0].submit(self._payment(coin, 3)).when_final()
        self._must(proof is not None, "the freed coin could be spent")
        self._say("  final.\n")
        return True

    async def _ends(self, client: Any, pair: list[Any]) -> list[Any]:
        """How each of the two ended, proven; none as soon as a block contains one of them, since then nobody need know
        the other. :class:`Refusal` ``timeout`` if neither has ended in time."""
        from twisted.internet.task import deferLater

        from timeproto.wallet.belief import Aborted

        deadline = self._reactor.seconds() + PATIENCE
        ends: dict[str, Any] = {}
        while self._reactor.seconds() < deadline:
            for tx in pair:
                if tx.txid not in ends:
                    try:
                        await client.belief.confirmed(tx.txid)
                    except Aborted as end:
                        ends[tx.txid] = end
                    except Refusal as refusal:  # not in a block yet, or not known at this node
                        if refusal.code is not ErrorCode.NOT_FOUND:
                            raise
                    else:
                        return []
            if len(ends) == len(pair):
                return list(ends.values())
            await deferLater(self._reactor, 0.1)
        raise Refusal(ErrorCode.TIMEOUT, f"neither payment was ended within {PATIENCE:g} s")

    async def _state(self, client: Any, coin: Any) -> str:
        from timeproto.model.utxo_state import from_wire, kind
        from timeproto.wire import messages

        reply = await client.ask(messages.UTXOStateQuery(outpoints=(str(coin.outpoint),)))
        return kind(from_wire(reply.states[0].state))


async def _hand_in(client: Any, tx: Any) -> None:
    """Whatever the node says: the other payment may have come first."""
    from timeproto.wire import messages

    try:
        await client.ask(messages.TransactionBroadcast(tx=tx))
    except Refusal:
        return
