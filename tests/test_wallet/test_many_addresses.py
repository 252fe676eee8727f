"""A wallet of 20,000 addresses, served by a node with the limits it is shipped with."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.cluster import address, pay
from tests.test_wallet.test_client import ClientCase
from timeproto import limits
from timeproto.model.address import address_of
from timeproto.model.utxo_state import kind
from timeproto.wallet import client as client_module

MANY = limits.FILTERS_CONNECTION


class ManyAddresses(ClientCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(client_module, "back_off", lambda attempt: 0.3)
        params = self.world.node.genesis.params
        owned = [address(each) for each in self.world.node.wallets[:1]]
        self.addresses = owned + [
            address_of(hashlib.sha256(b"%d" % number).digest(), params) for number in range(MANY - 1)
        ]

    def test_it_is_told_of_all_of_them_and_resumes(self) -> None:
        """Page after page, no request refused; cut off, it goes on where it was; the last counts like the first."""
        world, budgets = self.world, self.world.manager._budgets
        client, heard = world.client(), []
        watching = client.watch(heard.append, addresses=self.addresses, on_reset=heard.append)
        world.run(3)
        self.outcome(watching)
        self.assertEqual(world.node.handler._subscriptions._tally.total, MANY)
        self.pay(self.addresses[-1])
        world.run(1)
        self.assertIn(("new", self.addresses[-1]), self.told(heard))
        world.cut()
        self.pay(self.addresses[MANY // 2])
        world.run(5)
        self.assertIn(("new", self.addresses[MANY // 2]), self.told(heard))
        self.assertEqual([each for each in heard if isinstance(each, str)], [], "a reset")
        world.restart()  # the node forgets its leases: the whole filter comes again, with the cursor
        self.pay(self.addresses[7])
        world.run(8)
        self.assertIn(("new", self.addresses[7]), self.told(heard))
        self.assertEqual([each for each in heard if isinstance(each, str)], [], "a reset")
        self.assertEqual((budgets.refused, budgets.sent_away, budgets.pace.speed), (0, 0, 1))

    def test_its_price_is_what_the_page_says(self) -> None:
        """About 7,800 for all of it: less than a connection may spend at once."""
        world, prices = self.world, []

        def note(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed":
                prices.append(message["charge"]["cost"])
            return message

        world.bend = note
        client = world.client()
        watching = client.watch(lambda change: None, addresses=self.addresses)
        world.run(3)
        self.outcome(watching)
        self.assertEqual(len(prices), MANY // limits.FILTER)
        self.assertLess(7_500, sum(prices))
        self.assertLess(sum(prices), limits.COST_BURST)

    def pay(self, where: str) -> None:
        """The next coin of the second wallet goes there."""
        node = self.world.node
        coins = [(outpoint, output.amount, node.wallets[1]) for outpoint, output in node.genesis.coins()
                 if output.address == address(node.wallets[1])]
        self.paid = getattr(self, "paid", -1) + 1
        tx = pay(node.genesis, [coins[self.paid]], [(where, coins[0][1] // 2)])
        node.integration.process_transaction(tx)
        node.clock.advance(1)

    def told(self, heard: list[Any]) -> set[tuple[str, str]]:
        changes = [each for each in heard if not isinstance(each, str)]
        return {("new", each.output.address) for each in changes if kind(each.new_state) == "Unspent"}


