"""What wallets ask and are told: item by item, in order, each transition once, and nothing of anybody else's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Client, Node, state_name
from tests.cluster import COIN, address, key, pay
from timeproto import limits
from timeproto.model.certificate import check_proof
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.wire import codec, messages
from timeproto.wire.messages import Error, UTXOStateNotification, UTXOSubscribe, UTXOSubscribed, UTXOUnsubscribe


class HandlerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()
        self.client = Client()

    def coin(self, wallet: int = 0, number: int = 0) -> Outpoint:
        owned = [
            outpoint
            for outpoint, output in self.node.genesis.coins()
            if output.address == address(self.node.wallets[wallet])
        ]
        return owned[number]

    def payment(self, wallet: int = 0, number: int = 0, to: int = 1) -> Transaction:
        spends = [(self.coin(wallet, number), 10 * COIN, self.node.wallets[wallet])]
        return pay(self.node.genesis, spends, [(address(self.node.wallets[to]), COIN)])

    def ask(self, message: Any, client: Client | None = None) -> Any:
        return self.node.ask(client or self.client, message)

    def subscribe(self, client: Client, name: str = "s", **what: Any) -> UTXOSubscribed:
        answer = self.ask(UTXOSubscribe(id=1, subscriber_id=name, **what), client)
        self.assertIsInstance(answer, UTXOSubscribed)
        return answer  # type: ignore[no-any-return]

    def send(self, tx: Transaction) -> None:
        """By somebody else's connection."""
        answer = self.ask(messages.TransactionBroadcast(id=1, tx=tx), Client())
        self.assertIsInstance(answer, messages.TransactionAccepted)

    def assert_refused(self, code: str, message: Any, client: Client | None = None) -> Error:
        answer = self.ask(message, client)
        self.assertIsInstance(answer, Error)
        self.assertEqual((answer.code, answer.id), (code, message.id))
        return answer  # type: ignore[no-any-return]


class Queries(HandlerCase):
    """Questions and answers."""

    def test_each_item_is_answered_for_itself(self) -> None:
        """Known in both spellings, unknown, malformed: in order, none spoils another (U18)."""
        coin = self.coin()
        items = (str(coin), {"txid": coin.txid, "vout": coin.vout}, f"{'00' * 32}:0", "x", 5, {"txid": "zz"}, None, [])
        answer = self.ask(messages.UTXOStateQuery(id=4, outpoints=items))
        self.assertEqual([each.status for each in answer.states], ["known", "known", "unknown"] + ["malformed"] * 5)
        self.assertEqual(answer.states[0].state, "Unspent")
        self.assertEqual(answer.states[0].output.amount, 10 * COIN)
        self.assertEqual(answer.states[2].outpoint, Outpoint("00" * 32, 0))

    def test_a_payment_and_its_proof(self) -> None:
        """Fetched by txid, and it holds; an unknown one is not found."""
        tx = self.payment()
        self.send(tx)
        info = self.ask(messages.GetTransaction(id=1, txid=tx.txid))
        self.assertEqual((info.tx, info.status), (tx, "final"))
        proofs = self.ask(messages.GetFinalityProof(id=1, txid=tx.txid))
        check_proof(proofs.proofs[0], self.node.genesis.masternode_set, self.node.genesis.hash)
        trace = self.ask(messages.GetTrace(id=1, txid=tx.txid))
        self.assertEqual((trace.status, trace.tx, trace.proof), ("final", tx, info.proof))
        for question in (messages.GetTransaction, messages.GetFinalityProof, messages.GetTrace):
            self.assert_refused("not_found", question(id=2, txid="00" * 32))

    def test_the_coins_of_an_address(self) -> None:
        """Page by page, the spent ones only when asked for; another network's address is refused."""
        self.send(self.payment())
        mine = address(self.node.wallets[0])
        live = self.ask(messages.GetAddressUTXOs(id=1, address=mine))
        self.assertEqual((len(live.coins), live.more), (4, False))  # three of genesis and the change
        every: list[Any] = []
        more = True
        while more:
            after = every[-1].outpoint if every else None
            page = self.ask(messages.GetAddressUTXOs(id=1, address=mine, spent=True, limit=2, after=after))
            every, more = every + list(page.coins), page.more
        self.assertEqual(len({coin.outpoint for coin in every}), 5)
        self.assertEqual(state_name(every[-1].state), "SpentFinalized")
        self.assert_refused("bad_address", messages.GetAddressUTXOs(id=1, address="TIME1" + mine[5:]))

    def test_how_the_node_is(self) -> None:
        """Info in one message, with the request's id; the genesis too."""
        info = self.ask(messages.GetInfo(id=77))
        self.assertEqual((info.id, info.voting, info.masternodes), (77, True, 1))
        self.assertEqual(info.limits["frame_wallet"], limits.FRAME_WALLET)
        self.assertEqual(self.ask(messages.GetGenesis(id=1)).genesis, self.node.genesis)

    def test_a_node_that_starts_says_so(self) -> None:
        """``busy`` until it is wired."""
        client = Client()
        UTXOProtocolHandler().handle_message(client, messages.GetInfo(id=1))
        self.assertEqual([each.code for each in client.told], ["busy"])

    def test_a_bug_of_ours_is_internal(self) -> None:
        """The wallet is told, the log has it, the node lives."""
        self.node.view.coin = lambda outpoint: 1 // 0  # type: ignore[method-assign,assignment,return-value]
        self.assert_refused("internal", messages.UTXOStateQuery(id=1, outpoints=(str(self.coin()),)))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Subscriptions(HandlerCase):
    """Watching."""

    def test_payer_and_payee_see_every_step(self) -> None:
        """The payer its coin on the way out, the payee the coin that comes; each with the proof (U11)."""
        payer, payee = Client(), Client()
        tx = self.payment()
        self.subscribe(payer, addresses=(address(self.node.wallets[0]),))
        self.subscribe(payee, addresses=(address(self.node.wallets[1]),))
        self.send(tx)
        told = [each for each in payer.told if isinstance(each, UTXOStateNotification)]
        spent = [each for each in told if each.notification.outpoint == tx.outpoints[0]]
        self.assertEqual(
            [state_name(each.notification.new_state) for each in spent], ["Locked", "SpentPending", "SpentFinalized"]
        )
        for before, after in pairwise(spent):
            self.assertEqual(after.notification.old_state, before.notification.new_state)
        for each in (*spent[2:], *[each for each in payee.told if isinstance(each, UTXOStateNotification)]):
            assert each.proof is not None
            check_proof(each.proof, self.node.genesis.masternode_set, self.node.genesis.hash)
        self.assertEqual(payee.notified(), [(f"{tx.txid}:0", "Unspent")])
        positions = [each.cursor.position for each in told]
        self.assertEqual(positions, sorted(set(positions)))

    def test_the_snapshot_and_what_follows_meet_exactly(self) -> None:
        """A subscription made while a commit is on its way: nothing lost, nothing told twice (W-05)."""
        tx, other = self.payment(), self.payment(number=1)
        self.node.hold()
        self.node.handler.handle_message(Client(), messages.TransactionBroadcast(id=1, tx=tx))
        watcher = Client()
        self.node.handler.handle_message(
            watcher, UTXOSubscribe(id=1, subscriber_id="s", addresses=(address(self.node.wallets[0]),))
        )
        self.assertEqual(watcher.told, [])  # what is not durable is shown to nobody
        self.node.release()
        subscribed = watcher.told[0]
        self.assertIsInstance(subscribed, UTXOSubscribed)
        known = {str(coin.outpoint): state_name(coin.state) for coin in subscribed.states}
        for outpoint, state in watcher.notified():
            known[outpoint] = state
        self.send(other)
        positions = [each.cursor.position for each in watcher.told]
        self.assertTrue(all(position > subscribed.cursor.position for position in positions))
        for outpoint, state in watcher.notified():
            known[outpoint] = state
        for outpoint, state in known.items():
            held = self.node.view.coin(Outpoint(outpoint[:64], int(outpoint[65:])))
            assert held is not None
            self.assertEqual(state, type(held.state).__name__)

    def test_one_transition_is_told_once_to_one_connection(self) -> None:
        """By outpoint, by address, by two subscriptions: still once (W-04)."""
        tx = self.payment()
        self.subscribe(self.client, "a", outpoints=(str(tx.outpoints[0]),), addresses=(address(self.node.wallets[0]),))
        self.subscribe(self.client, "b", outpoints=({"txid": tx.outpoints[0].txid, "vout": tx.outpoints[0].vout},))
        self.send(tx)
        told = self.client.notified()
        self.assertEqual(len(told), len(set(told)))
        self.assertEqual(len([each for each in told if each[0] == str(tx.outpoints[0])]), 3)

    def test_nobody_hears_of_anybody_else(self) -> None:
        """A watcher of the third wallet is told nothing of a payment between the others (W-15)."""
        self.subscribe(self.client, addresses=(address(self.node.wallets[2]),))
        self.send(self.payment())
        self.assertEqual(self.client.notified(), [])

    def test_names_belong_to_their_connection(self) -> None:
        """The same name twice is two subscriptions; a stranger's unsubscribe finds nothing (W-01, W-02, W-26)."""
        owner, thief = Client(), Client()
        self.subscribe(owner, "same", outpoints=(str(self.coin()),))
        self.subscribe(thief, "same", outpoints=(str(self.coin(1)),))
        never = self.assert_refused("not_found", UTXOUnsubscribe(id=3, subscriber_id="never"), thief)
        self.ask(UTXOUnsubscribe(id=3, subscriber_id="same"), thief)
        gone = self.assert_refused("not_found", UTXOUnsubscribe(id=3, subscriber_id="same"), thief)
        self.assertEqual(never.message, gone.message)  # no oracle
        self.send(self.payment())
        self.assertEqual(len(owner.notified()), 3)
        self.assertEqual(thief.notified(), [])

    def test_silence_after_the_end(self) -> None:
        """Nothing after the acknowledgement (W-06), nothing after the connection is lost."""
        self.subscribe(self.client, outpoints=(str(self.coin()),))
        self.assertIsInstance(self.ask(UTXOUnsubscribe(id=2, subscriber_id="s")), messages.UTXOUnsubscribed)
        lost = Client()
        self.subscribe(lost, outpoints=(str(self.coin()),))
        self.node.handler.connection_lost(lost)
        self.send(self.payment())
        self.assertEqual((self.client.notified(), lost.notified()), ([], []))
        self.assertEqual(self.node.handler.subscription_count, 0)
        self.assertEqual(len(self.node.replica.manager.subscriptions), 0)

    def test_an_end_while_a_commit_is_on_its_way(self) -> None:
        """What it changes is told before the acknowledgement or not at all (W-06)."""
        self.subscribe(self.client, outpoints=(str(self.coin()),))
        self.node.hold()
        self.node.handler.handle_message(Client(), messages.TransactionBroadcast(id=1, tx=self.payment()))
        self.node.handler.handle_message(self.client, UTXOUnsubscribe(id=2, subscriber_id="s"))
        self.node.release()
        self.send(self.payment(number=1))
        kinds = [type(each) for each in self.client.told]
        self.assertEqual(kinds.count(messages.UTXOUnsubscribed), 1)
        self.assertIs(kinds[-1], messages.UTXOUnsubscribed)

    def test_a_filter_grows_in_place(self) -> None:
        """The same name again adds to it, and answers for what was added."""
        self.subscribe(self.client, outpoints=(str(self.coin()),))
        added = self.subscribe(self.client, outpoints=(str(self.coin(0, 1)),))
        self.assertEqual([coin.outpoint for coin in added.states], [self.coin(0, 1)])
        self.send(self.payment())
        self.send(self.payment(number=1))
        self.assertEqual({outpoint for outpoint, _ in self.client.notified()}, {str(self.coin()), str(self.coin(0, 1))})

    def test_filters_are_bounded_and_never_mean_everything(self) -> None:
        """Empty, malformed, too many subscriptions, too many items: each named (W-03)."""
        self.assert_refused("bad_field", UTXOSubscribe(id=1, subscriber_id="s"))
        self.assert_refused("bad_field", UTXOSubscribe(id=1, subscriber_id="s", outpoints=("*",)))
        self.assert_refused("bad_address", UTXOSubscribe(id=1, subscriber_id="s", addresses=("TIME0*",)))
        for number in range(limits.SUBSCRIPTIONS):
            self.subscribe(self.client, f"s{number}", outpoints=(str(self.coin()),))
        over = self.assert_refused(
            "over_limit", UTXOSubscribe(id=1, subscriber_id="one-more", outpoints=(str(self.coin()),))
        )
        self.assertEqual(over.details, {"limit": "subscriptions", "value": limits.SUBSCRIPTIONS})
        self.patch(limits, "FILTERS_CONNECTION", 5)
        many = tuple(f"{number:064x}:0" for number in range(6))
        other = Client()
        over = self.assert_refused("over_limit", UTXOSubscribe(id=1, subscriber_id="s", outpoints=many), other)
        assert over.details is not None
        self.assertEqual(over.details["limit"], "filters_connection")
        self.assertNotIn(other, [s.client for s in self.node.replica.manager.subscriptions._watched])  # type: ignore[attr-defined]

    def test_many_watchers_cost_one_encoding(self) -> None:
        """One address watched by a thousand connections: each transition is encoded once (A-5)."""
        clients = [Client() for _ in range(1_000)]
        for client in clients:
            self.subscribe(client, outpoints=(str(self.coin()),))
        encoded = []

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(codec, name)

            def encode(self, message: Any) -> bytes:
                encoded.append(message)
                return codec.encode(message)

        import timeproto.network.feeds as module

        self.patch(module, "codec", Counting())
        self.send(self.payment())
        self.assertEqual(len([each for each in encoded if isinstance(each, UTXOStateNotification)]), 3)
        self.assertTrue(all(len(client.notified()) == 3 for client in clients))


class Payments(HandlerCase):
    """Sending is watching."""

    def test_the_sender_is_told_every_step_and_then_no_more(self) -> None:
        """Accepted first, then its inputs' states, without having subscribed; afterwards nothing is remembered."""
        tx = self.payment()
        self.node.hold()  # as in a node, where verifying and committing take their time
        self.node.handler.handle_message(self.client, messages.TransactionBroadcast(id=5, tx=tx))
        self.node.release()
        accepted = self.client.told.pop(0)
        self.assertEqual((accepted.id, accepted.txid), (5, tx.txid))
        self.assertEqual([state for _, state in self.client.notified()], ["Locked", "SpentPending", "SpentFinalized"])
        self.assertEqual(len(self.node.replica.manager.subscriptions), 0)

    def test_accepted_means_durable(self) -> None:
        """No answer while the commit is on its way (W-13)."""
        self.node.hold()
        self.node.handler.handle_message(self.client, messages.TransactionBroadcast(id=5, tx=self.payment()))
        self.assertEqual(self.client.told, [])
        self.node.release()
        self.assertIsInstance(self.client.told[0], messages.TransactionAccepted)

    def test_the_same_payment_again_is_accepted_again(self) -> None:
        """Also when it is final long since; nobody is told anything twice."""
        tx = self.payment()
        self.send(tx)
        self.subscribe(self.client, outpoints=(str(tx.outpoints[0]),))
        for _ in range(3):
            self.send(tx)
        self.assertEqual(self.client.notified(), [])
        self.assertEqual(len(self.node.replica.manager.subscriptions), 1)

    def test_a_refused_payment_is_not_watched(self) -> None:
        """The double spend is named, and leaves nothing behind."""
        tx = self.payment()
        rival = self.payment(to=2)
        self.send(tx)
        error = self.assert_refused("double_spend", messages.TransactionBroadcast(id=9, tx=rival))
        self.assertEqual(error.details, {"conflicting_txid": tx.txid, "outpoint": str(tx.outpoints[0])})
        self.assertEqual(len(self.node.replica.manager.subscriptions), 0)

    def test_a_sender_that_leaves_is_forgotten(self) -> None:
        """Its payment goes on without it."""
        self.node.hold()
        tx = self.payment()
        self.node.handler.handle_message(self.client, messages.TransactionBroadcast(id=1, tx=tx))
        self.node.handler.connection_lost(self.client)
        self.node.release()
        self.assertEqual(len(self.node.replica.manager.subscriptions), 0)
        self.assertEqual(self.node.replica.final_count, 1)

    def test_a_key_that_owns_nothing(self) -> None:
        """Someone else's coin is refused by name."""
        thief = key(99)
        stolen = pay(self.node.genesis, [(self.coin(), 10 * COIN, thief)], [(address(thief), COIN)])
        self.assert_refused("not_owner", messages.TransactionBroadcast(id=1, tx=stolen))
