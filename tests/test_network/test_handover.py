"""Leases that belong to a key, taken up at another node than the one they were left at."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Client, Node
from tests.cluster import COIN, pay
from tests.cluster import address as address_of
from tests.test_network.harness import Network, address
from tests.test_network.owners import MINE, THEIRS, Case, Wallet
from timeproto import limits
from timeproto.errors import Refusal
from timeproto.masternode.service import Dispatcher
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.network import handover
from timeproto.network.handover import asker
from timeproto.network.handshake import OWNERS
from timeproto.network.ownership import show
from timeproto.network.requests import ConnectionGone
from timeproto.wire import messages
from timeproto.wire.messages import Cursor, Error, LeaseFilter, UTXOSubscribe


class Moving(Case):
    """From one masternode to another."""

    def test_taken_up_at_another_node(self) -> None:
        """With the key and the cursor, and no item: a reset with all states as they are there, and then it goes on."""
        wallet, again = Wallet(), Wallet()
        cursor = self.lease(wallet).cursor
        self.lost(wallet)
        self.pay()
        answer = self.take_up(again, cursor, desk=self.there, ttl_ms=300_000)
        self.assertEqual((answer.reset, answer.reason, answer.more), (True, "another_node", False))
        self.assertEqual((answer.cursor.node, answer.ttl_ms, answer.token), (self.there.key, 300_000, None))
        store = self.net.nodes[1].store
        true = {coin for item in self.items for coin, _ in store.address_coins(item, None, 100, spent=False)[0]}
        self.assertEqual({each.outpoint for each in answer.states}, true)
        self.assertEqual((self.here.leases, self.there.leases), (0, 1))
        self.assert_nothing_left(self.here)
        self.net.handlers[1] = self.there.handler
        self.pay(1)
        self.assertEqual(again.positions, self.log_of(self.items, answer.cursor.position, 1))

    def test_a_connection_that_still_had_it_is_told(self) -> None:
        """Half dead, or somebody else's with the same key: it has moved."""
        old, new = Wallet(), Wallet()
        cursor = self.lease(old).cursor
        self.assertTrue(self.take_up(new, cursor, desk=self.there).reset)
        self.assertEqual(old.notices, ["moved"])
        self.assert_nothing_left(self.here)

    def test_there_and_back(self) -> None:
        """As often as it likes; each time what is newest goes with it, and nothing older is ever taken up."""
        items, cursor = list(self.items), self.lease(Wallet()).cursor
        desks = [self.there, self.here] * 3
        for number, desk in enumerate(desks):
            wallet = Wallet()
            answer = self.take_up(wallet, cursor, desk=desk, items=items)
            self.assertTrue(answer.reset, number)
            items.append(more := f"{number:064x}:0")
            cursor = desk.ask(UTXOSubscribe(id=3, subscriber_id="w", outpoints=(more,)), wallet).cursor
            self.lost(wallet, desk)
        self.assertEqual((self.here.leases, self.there.leases), (1, 0))

    def test_an_old_one_left_behind_is_not_taken_for_the_new(self) -> None:
        """It began anew elsewhere while this node could not be asked; when it comes back, this node asks there."""
        wallet = Wallet()
        self.lease(wallet)
        self.lost(wallet)
        elsewhere, grown = Wallet(), (*self.items, self.net.address_of(2))
        cursor = self.lease(elsewhere, desk=self.there, addresses=grown).cursor
        answer = self.take_up(Wallet(), cursor, items=grown)
        self.assertEqual((answer.reset, len({each.output.address for each in answer.states})), (True, 3))
        self.assertEqual((self.here.leases, self.there.leases), (1, 0))
        self.assertEqual(self.here.handler._subscriptions._tally.total, 3)

    def test_where_it_cannot_be_had(self) -> None:
        """Not linked, silent, gone, an old one, none, no cursor: the same answer, in time, and the items help."""
        cursor = self.lease(Wallet()).cursor
        wallet = Wallet()
        refused = [
            self.take_up(wallet, desk=self.there),
            self.take_up(wallet, Cursor("ab" * 32, 1), desk=self.there),
            self.take_up(wallet, Cursor(self.there.key, 1), desk=self.there),
            self.take_up(wallet, cursor, desk=self.there, items=self.items[:1]),
            self.take_up(wallet, cursor, desk=self.there, subscriber_id="v"),
            self.take_up(wallet, cursor, desk=self.there, who=THEIRS),
        ]
        self.there.others.clear()
        refused.append(self.take_up(wallet, cursor, desk=self.there))
        self.patch(self.there.handler._handovers, "_ask", lambda node, message: Deferred())
        self.assertIsNone(self.take_up(wallet, cursor, desk=self.there))
        self.net.clock.advance(limits.HANDOVER_TIME)
        refused.append(wallet.told.pop())
        self.assertEqual({(each.code, each.message) for each in refused}, {("not_found", refused[0].message)})
        self.assertEqual((self.here.leases, self.there.leases), (1, 0))
        self.assertTrue(self.lease(wallet, desk=self.there, since=cursor).reset)

    def test_a_node_that_hands_over_something_else(self) -> None:
        """Less, more, nothing, or no filter at all: none of it is believed."""
        cursor = self.lease(Wallet()).cursor
        wallet, (one, two) = Wallet(), self.items
        for lie in (
            LeaseFilter(addresses=(one,)), LeaseFilter(addresses=(one, two, self.net.address_of(2))), LeaseFilter(),
            LeaseFilter(addresses=(one, two), outpoints=(Outpoint("ab" * 32, 0),)), messages.Pong(),
            LeaseFilter(addresses=(one, "TIME1" + two[5:])),
        ):  # fmt: skip
            def ask(node: str, message: Any, lie: Any = lie) -> Deferred[Any]:
                answer: Deferred[Any] = Deferred()
                answer.callback(lie)
                return answer

            self.patch(self.there.handler._handovers, "_ask", ask)
            self.assertEqual(self.take_up(wallet, cursor, desk=self.there).code, "not_found")
        self.assert_nothing_left(self.there)

    def test_only_to_the_node_it_was_shown_to(self) -> None:
        """A masternode that hears of what was shown to another, or that asks for what was shown to the giver."""
        self.lease(Wallet())
        third = self.net.nodes[2].key
        wallet = Wallet()
        for_there = self.owner(wallet, desk=self.there, items=self.items)
        for_here = self.owner(wallet, items=self.items)
        for owner in (for_there, for_here, replace(for_there, signature="00" * 64)):
            asking = messages.GetLease(id=1, subscriber_id="w", nonce=wallet.challenge or "", owner=owner)
            refusal = self.failureResultOf(self.here.asked(asking, third)).value
            self.assertEqual(refusal.code, "not_found")
        self.assertEqual(self.here.leases, 1)

    def test_what_was_shown_before_is_no_use_later(self) -> None:
        """A node the wallet once came to keeps what it was shown. When the wallet is back, that opens nothing."""
        cursor = self.lease(Wallet()).cursor
        wallet = Wallet()
        kept = self.owner(wallet, desk=self.there, items=self.items)
        back = self.take_up(wallet, cursor, desk=self.there, owner=kept).cursor
        self.assertTrue(self.take_up(Wallet(), back).reset)
        asking = messages.GetLease(id=1, subscriber_id="w", nonce=wallet.challenge or "", owner=kept)
        for _ in range(2):
            refusal = self.failureResultOf(self.here.asked(asking, self.there.key)).value
            self.assertEqual(refusal.code, "not_found")
        self.assertEqual(self.here.leases, 1)

    def test_no_wallet_may_ask_for_it(self) -> None:
        """Only masternodes send it, and a handler that got it all the same gives nothing."""
        self.lease(Wallet())
        self.assertEqual(messages.senders_of(messages.GetLease), {messages.Role.MASTERNODE})
        wallet = Wallet()
        asking = messages.GetLease(
            id=1, subscriber_id="w", nonce=wallet.challenge or "", owner=self.owner(wallet, items=self.items)
        )
        self.assertEqual(self.here.ask(asking, wallet).code, "not_found")

    def test_the_wallet_leaves_while_it_is_asked_for(self) -> None:
        """Nothing is made for nobody."""
        cursor = self.lease(Wallet()).cursor
        asked: Deferred[Any] = Deferred()
        self.patch(self.there.handler._handovers, "_ask", lambda node, message: asked)
        wallet = Wallet()
        self.take_up(wallet, cursor, desk=self.there)
        self.lost(wallet, self.there)
        asked.callback(LeaseFilter(addresses=self.items))
        self.assertEqual(wallet.told, [])
        self.assert_nothing_left(self.there)

    def test_by_links_that_know_of_it(self) -> None:
        """An older version is not asked what it would not understand, nor anybody who is not linked."""

        class Linked:
            def __init__(self, *known: str) -> None:
                self.known, self.asked = known, list[Any]()

            def knows(self, capability: str) -> bool:
                return capability in self.known

            def request(self, message: Any) -> Deferred[Any]:
                self.asked.append(message)
                return Deferred()

        old, new = Linked(), Linked(OWNERS)
        ask = asker({"old": old, "new": new})
        for node in ("old", "nobody"):
            self.failureResultOf(ask(node, "question"), ConnectionGone)
        self.assertNoResult(ask("new", "question"))
        self.assertEqual((old.asked, new.asked), ([], ["question"]))
        self.failureResultOf(handover.nobody("new", "question"), ConnectionGone)


class Links(SynchronousTestCase):
    def test_over_a_link(self) -> None:
        """The question goes to the one masternode, whoever dialled, and its answer, or its no, comes back."""
        network = Network()
        one, two = network.add(0, []), network.add(1, [0])
        network.start()
        network.run(1)
        owner = show(MINE, "ab" * 32, "cd" * 32, "ef" * 32, "w", time=1, filter="ab" * 32)
        asking = messages.GetLease(subscriber_id="w", nonce="ef" * 32, owner=owner)
        for here, there in ((one, two), (two, one)):
            (node,) = here.links
            recorder = network.recorders[address(1 if here is one else 0)]
            for answer in (LeaseFilter(addresses=()), Error(code="not_found", message="no")):
                asked = asker(here.links)(node, asking)
                network.run()
                connection, heard = recorder.messages.pop()
                self.assertEqual((replace(heard, id=None), connection.node_key), (asking, next(iter(there.links))))
                connection.send(replace(answer, id=heard.id))
                network.run()
                if isinstance(answer, Error):
                    self.failureResultOf(asked, Refusal)
                else:
                    self.assertIsInstance(self.successResultOf(asked), LeaseFilter)
        network.stop()

    def test_one_that_comes_too_late(self) -> None:
        """Nobody is asked to answer it, so no error fails what the other side asks under the same number."""
        network = Network()
        one, two = network.add(0, []), network.add(1, [0])
        dispatcher = Dispatcher((node := Node()).integration, node.handler)
        one._dispatcher = two._dispatcher = dispatcher
        network.start()
        network.run(1)
        (link,) = two.links.values()
        node.hold()
        node.handler.handle_message(Client(), messages.TransactionBroadcast(id=1, tx=self.payment(node)))
        asked = link.request(messages.GetInfo())
        (number,) = link._requests._waiting
        link.send(LeaseFilter(id=number, addresses=()))
        network.run()
        node.release()
        network.run()
        self.assertIsInstance(self.successResultOf(asked), messages.Info)

    def payment(self, node: Node) -> Transaction:
        wallet = node.wallets[0]
        coin, output = next(each for each in node.genesis.coins() if each[1].address == address_of(wallet))
        return pay(node.genesis, [(coin, output.amount, wallet)], [(output.address, COIN)])
