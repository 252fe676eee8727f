"""An account with 36 TIME in four coins, against one masternode in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import fail

from tests.cluster import COIN, address, pay
from tests.test_wallet.test_client import ClientCase
from tests.test_wallet.world import World
from timeproto.errors import ErrorCode, Refusal
from timeproto.wallet import hd
from timeproto.wallet.account import Account
from timeproto.wallet.keystore import WalletFile
from timeproto.wallet.purse import MemoryPurse

TOTAL = 36 * COIN


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


class MoneyCase(AccountCase):
    def file(self) -> WalletFile:
        folder = Path(self.mktemp())
        folder.mkdir()
        made = self.world.node.genesis
        return WalletFile.create(folder / "w.json", self.PHRASE, "pw", made, receive=1, opslimit=1, memlimit=8_192)

    def again(self, file: WalletFile) -> WalletFile:
        """What another process, or the next one, finds."""
        return WalletFile.open(file.path, "pw")

    def refuse(self, code: ErrorCode = ErrorCode.OVER_LIMIT) -> Any:
        """The node takes no payment until the function that is returned is called."""
        view = self.world.node.view
        takes = view.submit
        view.submit = lambda tx: fail(Refusal(code, "no", limit="x", value=1))

        def take() -> None:
            view.submit = takes

        return take

    def send(self, account: Account, amount: int = COIN, seconds: float = 1) -> Any:
        payment = account.send(self.shop, amount)
        payment.when_final().addErrback(lambda failure: None)
        self.world.run(seconds)
        return payment
