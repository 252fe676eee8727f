"""What the handler remembers of a wallet: never more than its bound, and nothing once it has gone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, GENESIS, PAYMENT, VOTERS, address, build, proof_of
from timeproto import limits
from timeproto.consensus.subscriptions import SubscriptionIndex
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.certificate import keep
from timeproto.model.ledger import Coin, Transition
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import UNSPENT, Locked, SpentFinalized
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.wire import codec, messages
from timeproto.wire.messages import UTXOStateNotification, UTXOSubscribe, UTXOUnsubscribe


class Wallet:
    """A connection that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def send(self, message: Any) -> None:
        self.told.append(message)

    def send_payload(self, payload: bytes) -> None:
        self.told.append(codec.decode(payload))


class SlowView:
    """A node in the middle of a commit: what wants to read waits for :meth:`boundary`, what was sent for a verdict."""

    def __init__(self) -> None:
        self.genesis, self.node_key = GENESIS, VOTERS[0].public_hex
        self.index = SubscriptionIndex()
        self.coins = {outpoint: Coin(output, UNSPENT) for outpoint, output in GENESIS.coins()}
        self.reads: list[Callable[[], None]] = []
        self.submitted: list[Deferred[messages.TransactionAccepted]] = []
        self.log = 0

    def read(self, question: Callable[[], Any]) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()

        def ask() -> None:
            try:
                answer.callback(question())
            except Exception:
                answer.errback()

        self.reads.append(ask)
        return answer

    def boundary(self) -> None:
        reads, self.reads = self.reads, []
        for each in reads:
            each()

    def submit(self, tx: Transaction) -> Deferred[messages.TransactionAccepted]:
        self.submitted.append(Deferred())
        return self.submitted[-1]

    def position(self) -> int:
        return self.log

    def coin(self, outpoint: Outpoint) -> Coin | None:
        return self.coins.get(outpoint)

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]:
        owned = [(outpoint, coin) for outpoint, coin in sorted(self.coins.items()) if coin.output.address == address]
        return owned[:limit], len(owned) > limit

    def transaction(self, txid: str) -> None:
        return None

    def info(self) -> Any:
        raise NotImplementedError

    def add_subscription(self, subscriber: Hashable, items: Iterable[Outpoint | str]) -> None:
        self.index.add(subscriber, items)

    def remove_subscription(self, subscriber: Hashable) -> bool:
        return self.index.remove(subscriber)

    def notify_subscribers(self, transitions: Iterable[Transition]) -> Iterator[tuple[Transition, list[Hashable]]]:
        return ((each, found) for each in transitions if (found := self.index.match(each)))


class WatcherCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.view = SlowView()
        self.handler = UTXOProtocolHandler()
        self.handler.setup_notification_handler(self.view)
        self.wallet = Wallet()
        self.mine = address(ALICE)

    def ask(self, message: Any, wallet: Wallet | None = None) -> None:
        self.handler.handle_message(wallet or self.wallet, message)

    def subscribe(self, name: str = "w", wallet: Wallet | None = None, **what: Any) -> None:
        self.ask(UTXOSubscribe(id=1, subscriber_id=name, **(what or {"addresses": (self.mine,)})), wallet)

    def move(self, state: Any, outpoint: Outpoint = PAYMENT.outpoints[0]) -> None:
        """One transition of a coin, told."""
        self.view.log += 1
        coin = self.view.coins[outpoint]
        self.view.coins[outpoint] = Coin(coin.output, state)
        step = Transition(self.view.log, outpoint, coin.output, coin.state, state, PAYMENT.txid, 5)
        self.handler.broadcast_state_notification([step], {PAYMENT.txid: keep(proof_of(PAYMENT.txid))})

    def events(self, wallet: Wallet | None = None) -> list[UTXOStateNotification]:
        return [each for each in (wallet or self.wallet).told if isinstance(each, UTXOStateNotification)]

    def assert_forgotten(self) -> None:
        self.assertEqual((len(self.view.index), self.view.index._watchers), (0, {}))
        self.assertEqual((self.handler.subscription_count, self.handler._feeds.all), (0, {}))


class Leaving(WatcherCase):
    """A wallet may leave at any moment between its question and our answer."""

    def test_gone_before_its_subscription_was_made(self) -> None:
        """The boundary comes after the end: nothing is made for nobody (failure: a filter that stays for ever)."""
        self.subscribe()
        self.handler.connection_lost(self.wallet)
        self.view.boundary()
        self.move(Locked(PAYMENT.txid, 1))
        self.assert_forgotten()
        self.assertEqual(self.wallet.told, [])

    def test_gone_with_everything_open(self) -> None:
        """Subscriptions, a payment under way, an unsubscription that waits: all forgotten, and nothing raises."""
        self.subscribe("a")
        self.view.boundary()
        self.subscribe("b")
        self.ask(UTXOUnsubscribe(id=2, subscriber_id="a"))
        self.ask(messages.TransactionBroadcast(id=3, tx=PAYMENT))
        self.handler.connection_lost(self.wallet)
        self.view.boundary()
        self.view.submitted[0].callback(messages.TransactionAccepted(txid=PAYMENT.txid))
        self.view.boundary()
        self.assert_forgotten()
        self.handler.connection_lost(self.wallet)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_refusal_after_the_end(self) -> None:
        """The verdict finds nobody."""
        self.ask(messages.TransactionBroadcast(id=3, tx=PAYMENT))
        self.handler.connection_lost(self.wallet)
        self.view.submitted[0].errback(Refusal(ErrorCode.BUSY, "later"))
        self.assert_forgotten()

    def test_a_thousand_that_come_and_go(self) -> None:
        """Nothing is left of any of them, in whatever order it ended."""
        for number in range(1_000):
            wallet = Wallet()
            self.subscribe(wallet=wallet)
            if number % 3:
                self.view.boundary()
            if number % 2:
                self.ask(messages.TransactionBroadcast(id=1, tx=PAYMENT), wallet)
            self.handler.connection_lost(wallet)
        self.view.boundary()
        self.assert_forgotten()


class OwnPayments(WatcherCase):
    """The inputs of what a connection sent are watched while they are undecided, and no longer."""

    def test_refused_then_accepted(self) -> None:
        """The same payment sent twice: the refusal of one does not end the watch of the other."""
        self.ask(messages.TransactionBroadcast(id=1, tx=PAYMENT))
        self.ask(messages.TransactionBroadcast(id=2, tx=PAYMENT))
        self.view.submitted[0].errback(Refusal(ErrorCode.UNKNOWN_INPUT, "its parent did not come"))
        self.view.submitted[1].callback(messages.TransactionAccepted(txid=PAYMENT.txid))
        self.view.boundary()
        self.move(Locked(PAYMENT.txid, 1))
        self.assertEqual(len(self.events()), 1)

    def test_refused_twice(self) -> None:
        """Nothing is watched after the last refusal."""
        for number in (1, 2):
            self.ask(messages.TransactionBroadcast(id=number, tx=PAYMENT))
        for each in self.view.submitted:
            each.errback(Refusal(ErrorCode.DUST, "no"))
        self.assertEqual(len(self.view.index), 0)
        self.assertEqual([each.id for each in self.wallet.told], [1, 2])

    def test_final_before_its_answer(self) -> None:
        """A payment that was final already is not watched for ever."""
        self.move(SpentFinalized(PAYMENT.txid, 1, 5))
        self.ask(messages.TransactionBroadcast(id=1, tx=PAYMENT))
        self.view.submitted[0].callback(messages.TransactionAccepted(txid=PAYMENT.txid))
        self.view.boundary()
        self.assertEqual(len(self.view.index), 0)

    def test_its_end_is_told_before_the_watch_ends(self) -> None:
        """SpentFinalized with its proof, and then nothing."""
        self.ask(messages.TransactionBroadcast(id=1, tx=PAYMENT))
        self.view.submitted[0].callback(messages.TransactionAccepted(txid=PAYMENT.txid))
        self.view.boundary()
        self.move(SpentFinalized(PAYMENT.txid, 1, 5))
        (event,) = self.events()
        self.assertIsNotNone(event.proof)
        self.assertEqual(len(self.view.index), 0)

    def test_their_inputs_count_as_watched(self) -> None:
        """One connection cannot watch without end by sending: the limit is named, and room is made by verdicts."""
        self.patch(limits, "FILTERS_CONNECTION", 3)
        coins = [(Outpoint(GENESIS.hash, vout), ALICE) for vout in range(2)]
        first = build(coins, [(1_000_000, address(BOB))])
        second = build(coins, [(2_000_000, address(BOB))])
        self.ask(messages.TransactionBroadcast(id=1, tx=first))
        self.ask(messages.TransactionBroadcast(id=2, tx=second))
        (error,) = self.wallet.told
        self.assertEqual((error.id, error.code, error.details["limit"]), (2, "over_limit", "filters_connection"))
        self.view.submitted[0].errback(Refusal(ErrorCode.DUST, "no"))
        self.ask(messages.TransactionBroadcast(id=3, tx=second))
        self.assertEqual(len(self.view.submitted), 2)


class Order(WatcherCase):
    """What is asked while a commit is under way is answered at its end, in order."""

    def test_nothing_after_the_last_word(self) -> None:
        """Events go on until the unsubscription is confirmed, and not after it (W-06)."""
        self.subscribe()
        self.view.boundary()
        self.ask(UTXOUnsubscribe(id=2, subscriber_id="w"))
        self.move(Locked(PAYMENT.txid, 1))
        self.view.boundary()
        self.move(SpentFinalized(PAYMENT.txid, 1, 5))
        kinds = [type(each).__name__ for each in self.wallet.told]
        self.assertEqual(kinds, ["UTXOSubscribed", "UTXOStateNotification", "UTXOUnsubscribed"])

    def test_the_snapshot_is_of_the_boundary(self) -> None:
        """A transition while the question waits is in the snapshot, and is not told again (W-05)."""
        self.subscribe()
        self.move(Locked(PAYMENT.txid, 1))
        self.view.boundary()
        (snapshot,) = self.wallet.told
        self.assertEqual(snapshot.cursor.position, 1)
        states = {each.outpoint: each.state for each in snapshot.states}
        self.assertNotEqual(states[PAYMENT.outpoints[0]], "Unspent")

    def test_coin_by_name_and_by_owner_in_three_filters(self) -> None:
        """Once for each connection, however many of its filters match (W-04)."""
        self.subscribe("a")
        self.subscribe("b", outpoints=(str(PAYMENT.outpoints[0]),))
        self.ask(messages.TransactionBroadcast(id=9, tx=PAYMENT))
        other = Wallet()
        self.subscribe("a", other)
        self.view.boundary()
        self.move(Locked(PAYMENT.txid, 1))
        self.assertEqual((len(self.events()), len(self.events(other))), (1, 1))

    def test_anothers_name_is_unknown_like_any_other(self) -> None:
        """No oracle, and no harm (W-01, W-02)."""
        self.subscribe("w")
        thief = Wallet()
        for name in ("w", "never-seen"):
            self.ask(UTXOUnsubscribe(id=5, subscriber_id=name), thief)
        self.view.boundary()
        first, second = thief.told
        self.assertEqual(first, second)
        self.assertEqual(first.code, "not_found")
        self.assertEqual(self.handler.subscription_count, 1)

    def test_asking_for_the_same_again_costs_no_room(self) -> None:
        """A filter at its bound may be asked for again: nothing of it is new (W-03)."""
        self.patch(limits, "FILTERS_CONNECTION", 2)
        outpoints = tuple(f"{'11' * 32}:{number}" for number in range(2))
        for _ in range(3):
            self.subscribe("w", outpoints=outpoints)
        self.subscribe("w", outpoints=(f"{'11' * 32}:7",))
        self.view.boundary()
        self.assertEqual([getattr(each, "code", "fine") for each in self.wallet.told], ["fine"] * 3 + ["over_limit"])
