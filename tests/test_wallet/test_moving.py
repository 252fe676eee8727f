"""A wallet that goes from one masternode to another: what it watches goes with it, by its key."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.test_network.listening import Listening
from tests.test_network.owners import Desk
from tests.test_wallet.ear import Ear
from tests.test_wallet.world import World
from timeproto import limits
from timeproto.model.keys import SigningKey
from timeproto.model.utxo_state import kind
from timeproto.wallet import client as client_module
from timeproto.wallet.client import WalletClient
from timeproto.wallet.resuming import Proprietor
from timeproto.wire.messages import UTXOSubscribe


class Nodes(World):
    """Two masternodes of four; ``at`` is the one that a new connection reaches."""

    def __init__(self, net: Listening) -> None:
        self.desks = [Desk(net, number) for number in (0, 1)]
        for here, there in (self.desks, self.desks[::-1]):
            here.others[there.key] = there
        net.handlers = {number: desk.handler for number, desk in enumerate(self.desks)}
        super().__init__(net)
        self._managers = [self.manager, self.serve(2, self.desks[1].handler)]
        self.at = 0

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.manager = self._managers[self.at]
        return super().connect(protocolFactory)

    @property
    def leases(self) -> list[int]:
        return [desk.leases for desk in self.desks]


class Moving(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(client_module, "back_off", lambda attempt: 0.3)
        self.net = Listening()
        self.world = Nodes(self.net)
        self.asked: list[UTXOSubscribe] = []
        for desk in self.world.desks:
            handle = desk.handler.handle_message

            def note(client: Any, message: Any, handle: Any = handle) -> None:
                if isinstance(message, UTXOSubscribe):
                    self.asked.append(message)
                handle(client, message)

            self.patch(desk.handler, "handle_message", note)

    def watch(self, client: WalletClient, *wallets: int, **more: Any) -> Ear:
        ear = Ear()
        addresses = [self.net.address_of(number) for number in wallets]
        watching = client.watch(ear.heard.append, on_reset=ear.heard.append, addresses=addresses, **more)
        self.world.run(0.3)
        self.successResultOf(watching)
        return ear

    def move(self, at: int) -> None:
        self.world.at = at
        self.world.cut()
        self.world.run(3)

    def pay(self, coin: int) -> str:
        tx = self.net.payment(0, coin, 1)
        self.net.submit(tx, 0)
        self.net.settle(2)
        self.world.run(0.3)
        return tx.txid

    def heard(self, ear: Ear) -> list[str]:
        told = [each if isinstance(each, str) else kind(each.new_state) for each in ear.heard]
        ear.heard.clear()
        return told

    def test_its_filter_goes_with_it(self) -> None:
        """No item is named at the other node; it is told of the reset, of what is new, and then it goes on live."""
        client = self.world.client()
        ear = self.watch(client, 1)
        ear.heard.clear()
        self.asked.clear()
        self.world.refuses = True
        self.world.cut()
        missed = self.pay(0)
        self.world.refuses = False
        self.move(1)
        (request,) = self.asked
        self.assertEqual((request.addresses, request.outpoints, request.owner is not None), ((), (), True))
        self.assertEqual(self.heard(ear), ["another_node", "Unspent"])
        self.assertTrue(client.is_current)
        coming = self.pay(1)
        self.assertEqual([str(each.outpoint) for each in ear.changes], [f"{coming}:0"])
        self.assertNotEqual(missed, coming)
        self.assertEqual(self.world.leases, [0, 1])

    def test_there_and_back_with_more_each_time(self) -> None:
        """What was added at one node is known at the next; nothing is told twice, nothing is left behind."""
        client = self.world.client()
        ears = [self.watch(client, 0)]
        self.asked.clear()
        for number, at in enumerate((1, 0, 1, 0)):
            self.move(at)
            named = [each.addresses for each in self.asked]
            self.assertEqual((named, sum(self.world.leases)), ([()], 1), number)
            if number < 2:
                ears.append(self.watch(client, number + 1))
            self.asked.clear()
        spent = self.net.payment(0, 0, 1).outpoints[0]
        self.pay(0)
        self.assertEqual([change.outpoint for change in ears[0].changes if change.cursor][:1], [spent])
        seen = [each.outpoint for ear in ears for each in ear.changes if kind(each.new_state) == "Unspent"]
        self.assertEqual(len(seen), len(set(seen)))
        self.move(1)
        self.assertEqual([(each.addresses, each.owner is not None) for each in self.asked], [((), True)])
        self.assertEqual(self.world.leases, [0, 1])

    def test_from_a_node_that_is_gone(self) -> None:
        """It cannot be asked: the items are named, and what it had kept ends by itself."""
        client = self.world.client()
        ear = self.watch(client, 1)
        ear.heard.clear()
        self.world.desks[1].others.clear()
        self.asked.clear()
        self.move(1)
        self.assertEqual([len(each.addresses) for each in self.asked], [0, 1])
        self.pay(0)
        self.assertEqual(self.heard(ear), ["another_node", "Unspent"])
        self.assertEqual(self.world.leases, [1, 1])
        self.asked.clear()
        self.world.desks[1].others[self.world.desks[0].key] = self.world.desks[0]
        self.move(0)
        self.assertEqual([(each.addresses, each.owner is not None) for each in self.asked], [((), True)])
        self.assertEqual(self.heard(ear), ["another_node"])
        self.assertEqual(self.world.leases, [1, 1])  # what it had kept was the same, and there was nothing to ask

    def test_more_items_than_one_answer_shows(self) -> None:
        """They are named, page by page: that shows their coins at once."""
        self.patch(limits, "FILTER", 2)
        client = self.world.client()
        ear = self.watch(client, 0, 1, 2)
        told = len(ear.changes)
        self.asked.clear()
        self.move(1)
        self.assertEqual([len(each.addresses) for each in self.asked], [2, 1])
        self.assertEqual((len(ear.changes), self.heard(ear)[-1]), (told, "another_node"))

    def test_two_wallets_of_one_owner(self) -> None:
        """Each client has a key of its own: none takes the other's away."""
        clients = [self.world.client() for _ in range(2)]
        ears = [self.watch(client, 1) for client in clients]
        self.move(1)
        for ear in ears:
            ear.heard.clear()
        self.pay(0)
        self.assertEqual([self.heard(ear) for ear in ears], [["Unspent"], ["Unspent"]])
        self.assertEqual(len({request.owner.key for request in self.asked if request.owner is not None}), 2)
        self.assertEqual(self.world.leases, [0, 2])

    def test_payments_on_their_way_come_along(self) -> None:
        """The other node is asked for hints too, and tells at once what is on its way there."""
        client = self.world.client()
        hints: list[Any] = []
        self.watch(client, 1, on_payment=hints.append)
        self.net.partition([0, 2], [1, 3])
        self.net.submit(self.net.payment(0, 0, 1), 1)
        self.net.run()
        self.world.run(0.2)
        self.assertEqual(hints, [])
        self.move(1)
        self.assertEqual([each.status for each in hints], ["locked"])

    def test_a_second_is_not_shown_twice(self) -> None:
        """The times of what a wallet signs grow, whatever its clock does."""
        moments = iter((100, 100, 50, 200))
        owner = Proprietor(SigningKey(b"\x01" * 32), "ab" * 32, lambda: next(moments))

        class Proven:
            node_key, node_nonce = "cd" * 32, "ef" * 32

        times = [owner.show(Proven(), None).time for _ in range(4)]  # type: ignore[arg-type]
        self.assertEqual(times, [100_000, 100_001, 100_002, 200_000])

    def test_a_masternode_that_goes_on_with_the_log_of_another(self) -> None:
        """It says that it resumes, tells nothing, and keeps a payment to itself: the first tells it all the same."""
        client = self.world.client()
        ear = self.watch(client, 1)
        ear.heard.clear()
        here = client.cursor
        own, stolen = {}, {"node": here.node, "position": here.position + 5}
        for number, cursor in enumerate((own, stolen)):

            def bend(message: dict[str, Any], cursor: dict[str, Any] = cursor) -> dict[str, Any] | None:
                if message["type"] == "UTXOSubscribed":
                    message |= {"reset": False, "states": [], "cursor": message["cursor"] | cursor}
                    message.pop("reason", None)
                elif message["type"] == "UTXOWatermark":
                    message["cursor"] |= cursor
                return None if message["type"] == "UTXOStateNotification" else message

            self.world.bend = bend
            self.move(1)
            self.pay(number)
            # In its own name it has no place to go on from; in the other's it is not heard at all.
            self.assertEqual(self.heard(ear), [] if cursor else ["another_node"])
            self.world.bend = lambda message: message
            self.move(0)
            self.assertIn("Unspent", self.heard(ear))
