"""A wallet at every masternode that watches a few addresses, over all the masternode's lives (protocol §8).

It is told what the replica's own subscription index picks from each released change set; after a restart it reads on
from its cursor.
"""

from __future__ import annotations

from timeproto.consensus.effects import Effects
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import UNSPENT, Confirmed, UTXOState
from timeproto.sim.masternode import Masternode
from timeproto.sim.promises import Broken
from timeproto.sim.trace import short

PAGE = 1_000


class Watcher:
    """What one wallet was told by one masternode: the last state of each coin, and how far in the log that reaches."""

    def __init__(self, addresses: tuple[str, ...], founded: dict[Outpoint, UTXOState]) -> None:
        self.addresses = addresses
        self.cursor = 0
        self.picture = dict(founded)

    def tell(self, node: Masternode, step: Transition) -> None:
        if step.output.address not in self.addresses:
            raise Broken(6, "S-6", f"{short(node.name)} told of {step.outpoint}, which is somebody else's")
        if step.position <= self.cursor:
            raise Broken(6, "S-2", f"{short(node.name)} told position {step.position} after {self.cursor}")
        if self.picture.get(step.outpoint) != step.old_state:
            raise Broken(
                6, "S-3", f"{short(node.name)} told that {step.outpoint} was {step.old_state}, and had told"
                f" {self.picture.get(step.outpoint)}"
            )
        self.cursor = step.position
        self.picture[step.outpoint] = step.new_state


class Watchers:
    def __init__(self, addresses: tuple[str, ...], coins: list[tuple[Outpoint, str]]) -> None:
        """``coins``: those of genesis, with their owners."""
        self._addresses = addresses
        self._founded: dict[Outpoint, UTXOState] = {coin: UNSPENT for coin, owner in coins if owner in addresses}
        self._watchers: dict[str, Watcher] = {}

    def started(self, node: Masternode) -> None:
        watcher = self._watchers.setdefault(node.name, Watcher(self._addresses, self._founded))
        node.replica.manager.add_subscription("wallet", self._addresses)
        head = node.replica.manager.position
        if watcher.cursor > head:
            raise Broken(6, "S-10", f"{short(node.name)} told up to {watcher.cursor}, and its log ends at {head}")
        after = watcher.cursor
        while page := node.store.transitions(after, PAGE):
            for step in page:
                if step.output.address in self._addresses:
                    watcher.tell(node, step)
            after = page[-1].position

    def released(self, node: Masternode, effects: Effects) -> None:
        if effects.changes is not None:
            for step, _ in node.replica.manager.notify_subscribers(effects.changes.transitions):
                self._watchers[node.name].tell(node, step)
                if isinstance(step.new_state, Confirmed) and not _is_shown(step.new_state, effects):
                    raise Broken(6, "S-10", f"{short(node.name)} told {step.outpoint} Confirmed, and by no block")

    def conclude(self, node: Masternode) -> None:
        """At rest the wallet's picture is the masternode's."""
        for outpoint, state in self._watchers[node.name].picture.items():
            coin = node.store.coin(outpoint)
            if coin is None or coin.state != state:
                raise Broken(6, "S-5", f"{short(node.name)} has {outpoint} as {coin}, and told {state}")
        for address in self._addresses:
            coins, _ = node.store.address_coins(address, None, PAGE, spent=True)
            for outpoint, _ in coins:
                if outpoint not in self._watchers[node.name].picture:
                    raise Broken(6, "S-4", f"{short(node.name)} never told of {outpoint}")


def _is_shown(state: Confirmed, effects: Effects) -> bool:
    """True if the block that contains the transaction comes with what is told."""
    decided = effects.blocks.get(state.block_height)
    return decided is not None and state.txid in decided.block.transactions
