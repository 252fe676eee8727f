"""What a watching wallet is promised, shown on processes: payments on their way, a lease that moves with its key."""

from __future__ import annotations

from typing import Any

from tests.test_processes.harness import DevnetCase, until
from timeproto.model.utxo_state import kind
from timeproto.wallet import hd
from timeproto.wallet.incoming import Incoming
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wire.messages import UTXOSubscribe


class Watching(DevnetCase):
    coins = 10

    async def test_hints_and_a_move(self) -> None:
        """Told of a payment before it is final, of the coin before the word final; then at another node, by its key."""
        devnet = await self.start(4, block_interval=1)
        genesis, told, asked = devnet.layout.genesis, list[Any](), list[UTXOSubscribe]()
        payee = hd.address(hd.derive(devnet.layout.phrase("bob")), genesis.params)
        request = WalletClientProtocol.request

        def note(protocol: Any, message: Any) -> Any:
            if isinstance(message, UTXOSubscribe):
                asked.append(message)
            return request(protocol, message)

        self.patch(WalletClientProtocol, "request", note)
        payer, client = await self.client(3), await self.client(1, 2)
        await client.watch(told.append, addresses=[payee], on_reset=told.append, on_payment=told.append)
        told.clear()
        *paying, last = self.transactions[:9]
        while not {"locked", "pending"} & set(self.story(told)):  # a node that is late hears of all steps in one
            await payer.submit(paying.pop()).when_final()
        hinted = {each.txid for each in told if isinstance(each, Incoming)}
        await until(lambda: self.story(told).count("confirmed") == len(hinted))
        for txid in hinted:
            of_it = self.story([each for each in told if self.txid(each) == txid])
            self.assertEqual(of_it[-3:], ["UNSPENT", "final", "confirmed"])
        told.clear()
        asked.clear()
        before = client.node
        client.connection.close()  # type: ignore[union-attr]
        await until(lambda: client.is_current and client.node != before)
        (taking,) = asked
        self.assertEqual((taking.addresses, taking.owner is not None), ((), True))
        await until(lambda: told)
        self.assertEqual(told, ["another_node"])  # the coins are those that it knows
        await payer.submit(last).when_final()
        await until(lambda: "UNSPENT" in self.story(told))
        self.assertEqual({self.txid(each) for each in told[1:]}, {last.txid})

    @staticmethod
    def txid(each: Any) -> str:
        if isinstance(each, str):
            return ""
        return each.txid if isinstance(each, Incoming) else str(each.outpoint.txid)

    @staticmethod
    def story(told: list[Any]) -> list[str]:
        return [
            each.status if isinstance(each, Incoming) else kind(each.new_state).upper()
            for each in told if not isinstance(each, str)
        ]  # fmt: skip
