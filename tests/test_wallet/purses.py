"""A client with a purse, and one masternode; and what is paid to that purse, and by another process with its keys."""

from __future__ import annotations

from tests.cluster import COIN, address, pay
from tests.test_wallet.accounts import TOTAL, AccountCase
from tests.test_wallet.ear import Resuming
from timeproto.wallet.client import WalletClient
from timeproto.wallet.purse import MemoryPurse

FEE = 10_000


class PurseCase(Resuming, AccountCase):
    """A client with a purse, and one masternode."""

    def client(self) -> WalletClient:
        """One that was never started."""
        client = WalletClient(
            self.world.clock, self.world.node.genesis, [], rotation=self.world, purse=MemoryPurse(self.PHRASE)
        )
        self.addCleanup(client.stopService)
        return client

    def opened(self) -> WalletClient:
        client = self.client()
        client.startService()
        self.assertEqual(self.balance(client), TOTAL)
        return client

    def balance(self, client: WalletClient, seconds: float = 5) -> int:
        balance = client.balance()
        self.world.run(seconds)
        return self.successResultOf(balance).total

    def give(self, to: str, number: int = 0) -> None:
        """9 TIME, final."""
        genesis, giver = self.world.node.genesis, self.world.node.wallets[0]
        owned = [at for at, output in genesis.coins() if output.address == address(giver)][number]
        self.world.node.integration.process_transaction(
            pay(genesis, [(owned, 10 * COIN, giver)], [(to, 9 * COIN)])
        )

    def spend(self) -> None:
        """Another process with these keys pays a coin away."""
        coins, _ = self.world.node.view.address_coins(address(self.mine), None, 1, spent=False)
        self.world.node.integration.process_transaction(
            pay(self.world.node.genesis, [(coins[0][0], 9 * COIN, self.mine)], [(self.shop, 9 * COIN - FEE)])
        )

    @property
    def connected(self) -> int:
        """Connections that the node has."""
        return sum(server.is_open for server in self.world._servers)
