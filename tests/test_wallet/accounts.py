"""An account with 36 TIME in four coins, against one masternode in memory."""

from __future__ import annotations

from typing import Any

from tests.cluster import COIN, address, pay
from tests.test_wallet.test_client import ClientCase
from tests.test_wallet.world import World
from timeproto.wallet import hd
from timeproto.wallet.account import Account
from timeproto.wallet.purse import MemoryPurse


class AccountCase(ClientCase):
    PHRASE = "abandon " * 11 + "about"

    def setUp(self) -> None:
        super().setUp()
        self.mine = hd.derive(self.PHRASE)
        self.world = World(wallets=2, coins=4)
        self.fund(self.mine, 4)

    def fund(self, owner: Any, coins: int) -> None:
        """Moves ``coins`` coins of a genesis wallet to ``owner``, final."""
        node = self.world.node
        giver = node.wallets[1]
        owned = [o for o, out in node.genesis.coins() if out.address == address(giver)]
        for number in range(coins):
            tx = pay(node.genesis, [(owned[number], 10 * COIN, giver)], [(address(owner), 9 * COIN)])
            node.integration.process_transaction(tx)

    def account(self, purse: Any = None) -> tuple[Account, Any]:
        purse = purse or MemoryPurse(self.PHRASE)
        account = Account(purse, self.world.client(), now=lambda: 0)
        self.outcome(account.open())
        return account, purse

    @property
    def shop(self) -> str:
        """Somebody to pay."""
        return address(self.world.node.wallets[0])
