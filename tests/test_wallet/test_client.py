"""The wallet's service: payments that end, watches that miss nothing, and no belief in any node's word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import COIN, address, key, pay
from tests.examples import STRANGER, VOTERS
from tests.test_wallet.world import World
from timeproto.errors import ErrorCode, Refusal
from timeproto.masternode.service import Dispatcher
from timeproto.model.certificate import FinalityProof, signed_vote
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import kind
from timeproto.model.vote import VoteKind, sign_batch
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.belief import Belief, Lie
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.watch import Change
from timeproto.wire import codec, messages


class ClientCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.wallet = self.world.node.wallets[0]

    def coin(self, number: int = 0) -> Outpoint:
        owned = [o for o, out in self.world.node.genesis.coins() if out.address == address(self.wallet)]
        return owned[number]

    def payment(self, number: int = 0, to: int = 1, amount: int = COIN) -> Transaction:
        spends = [(self.coin(number), 10 * COIN, self.wallet)]
        return pay(self.world.node.genesis, spends, [(address(self.world.node.wallets[to]), amount)])

    def outcome(self, coroutine: Any) -> Any:
        waiting = ensureDeferred(coroutine)
        self.world.run(0.1)
        return self.successResultOf(waiting)


class Payments(ClientCase):
    """From submit to proof."""

    def test_every_step_and_a_proof(self) -> None:
        """Accepted, then each state once, then a verified proof."""
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(0.2)
        proof = self.successResultOf(payment.when_final())
        self.assertEqual(proof.txid, payment.txid)
        steps = [step.state for step in payment.history]
        self.assertEqual(sorted(steps), sorted(["accepted", "Locked", "SpentPending", "SpentFinalized"]))
        self.assertEqual(steps[-1], "SpentFinalized")

    def test_a_refusal_ends_it(self) -> None:
        """The double spend fails with its code; both Deferreds say why."""
        client = self.world.client()
        client.submit(self.payment())
        self.world.run(0.2)
        rival = client.submit(self.payment(to=2))
        self.world.run(0.2)
        for waiting in (rival.when_accepted(), rival.when_final()):
            self.assertIs(self.failureResultOf(waiting, Refusal).value.code, ErrorCode.DOUBLE_SPEND)

    def test_a_connection_lost_in_between_costs_nothing(self) -> None:
        """Sent again to the next connection, final all the same, and one payment (failure 22)."""
        client = self.world.client()
        self.world.node.hold()
        payment = client.submit(self.payment())
        self.world.run(0.2)
        self.world.cut()
        self.world.node.release()
        self.world.run(3)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(self.world.node.replica.final_count, 1)
        self.assertGreater(self.world.connections, 1)

    def test_a_node_that_keeps_finality_to_itself(self) -> None:
        """It swallows every notification: the wallet asks, and gets the proof."""
        self.world.bend = lambda message: None if message["type"] == "UTXOStateNotification" else message
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(0.5)
        self.assertIsNone(payment.proof)
        self.world.run(2 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)

    def test_a_node_that_does_not_vote_is_left(self) -> None:
        """``not_voting`` says something about the node: the payment waits for the next one."""
        self.world.node.replica.halt("tired")
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(1)
        self.assertIsNone(payment.error)
        self.assertGreater(self.world.connections, 1)
        self.world.run(60)
        self.assertLess(self.world.connections, 60)  # and not run through like a wheel
        self.world.node = type(self.world.node)()
        self.world.manager._dispatcher = Dispatcher(self.world.node.integration, self.world.node.handler)
        self.world.run(10)
        self.assertIsNotNone(payment.proof)

    def test_closing_the_wallet_tells_who_waits(self) -> None:
        """``ConnectionGone``: nobody knows, which is not a refusal."""
        client = self.world.client()
        self.world.node.hold()
        payment = client.submit(self.payment())
        self.world.run(0.2)
        client.stopService()
        self.world.run(0.2)
        self.failureResultOf(payment.when_final(), ConnectionGone)

    def test_what_is_asked_of_a_wallet_that_was_closed(self) -> None:
        """It fails at once, since nothing would come of it; started again the wallet serves as before."""
        client = self.world.client()
        self.world.refuses = True
        self.world.cut()
        waiting = client.when_connected()
        self.assertNoResult(waiting)
        self.world.refuses = False
        self.world.run(3)
        self.successResultOf(waiting)
        for is_gone in (False, True):  # at once, and when the connection is gone
            client.stopService()
            if is_gone:
                self.world.run(0.2)
            payment = client.submit(self.payment())
            for asked in (
                client.when_connected(),
                payment.when_accepted(),
                payment.when_final(),
                client.wait_final(payment.txid),
                client.wait_confirmed(payment.txid),
                client.cancel(self.payment(2), self.wallet),
                client.cancel(payment.txid, self.wallet),
                client.watch(lambda change: None, addresses=[address(self.wallet)]),
            ):
                self.failureResultOf(asked, ConnectionGone)
            self.world.run(0.2)
            client.startService()
            self.world.run(3)
        again = client.submit(self.payment(1))
        self.world.run(2 * ASK_AGAIN)
        self.assertIsNotNone(again.proof)
        self.assertEqual(self.world.node.replica.final_count, 1)  # and what failed was not kept for later

    def test_a_wallet_that_is_closed_before_a_node_is_there(self) -> None:
        """Whoever waits for one is told."""
        client = self.world.client()
        self.world.refuses = True
        self.world.cut()
        waiting = client.when_connected()
        client.stopService()
        self.failureResultOf(waiting, ConnectionGone)

    def test_the_proof_of_any_transaction(self) -> None:
        """Fetched and verified, also when it is nobody's payment here."""
        first = self.world.client().submit(self.payment())
        self.world.run(0.2)
        other = self.world.client()
        waiting = other.wait_final(first.txid)
        self.world.run(0.2)
        self.assertEqual(self.successResultOf(waiting).txid, first.txid)


class Watching(ClientCase):
    """Changes of coins."""

    def watch(self, client: Any, *wallets: int, **more: Any) -> list[Change]:
        changes: list[Change] = []
        addresses = [address(self.world.node.wallets[number]) for number in wallets]
        self.outcome(client.watch(changes.append, addresses=addresses, **more))
        self.world.run(0.2)
        return changes

    def test_the_states_now_and_then_every_change(self) -> None:
        """Genesis coins first; then the coin that comes, proven."""
        changes = self.watch(self.world.client(), 1)
        self.assertEqual([(kind(c.new_state), c.proven) for c in changes], [("Unspent", True)] * 4)
        payer = self.world.client()
        payer.submit(self.payment())
        self.world.run(0.3)
        new = changes[-1]
        self.assertEqual(
            (new.old_state, kind(new.new_state), new.proven, new.output.amount), (None, "Unspent", True, COIN)
        )

    def test_what_happened_while_away_is_told_once(self) -> None:
        """A coin spent and two received during a cut: every step of them, in the order of the node's log, and once."""
        client = self.world.client()
        mine = self.watch(client, 0, 1)
        before = len(mine)
        self.world.refuses = True
        self.world.cut()
        tx = self.payment()
        self.world.node.integration.process_transaction(tx)
        self.world.refuses = False
        self.world.run(5)
        told = [(str(change.outpoint), kind(change.new_state), change.proven) for change in mine[before:]]
        spent = str(self.coin())
        self.assertEqual(
            told,
            [
                (spent, "Locked", False),
                (spent, "SpentPending", False),
                (spent, "SpentFinalized", True),
                (f"{tx.txid}:0", "Unspent", True),
                (f"{tx.txid}:1", "Unspent", True),
            ],
        )
        self.world.cut()
        self.world.run(5)
        self.assertEqual(len(mine) - before, 5)

    def test_a_watch_that_was_stopped(self) -> None:
        """Silence."""
        client = self.world.client()
        changes: list[Change] = []
        watch = self.outcome(client.watch(changes.append, addresses=[address(self.wallet)]))
        self.world.run(0.2)
        watch.stop()
        before = len(changes)
        client.submit(self.payment())
        self.world.run(0.3)
        self.assertEqual(len(changes), before)


class Lies(ClientCase):
    """A node that bends its words: nothing that is not proven is believed."""

    def false_proof(self, txid: str, voters: Any = VOTERS[:1], kind_: VoteKind = VoteKind.COMMIT) -> Any:
        genesis = self.world.node.genesis
        batches = [
            sign_batch(voter, genesis.hash, genesis.masternode_set.hash, 0, **{kind_.name.lower(): [txid]})
            for voter in voters
        ]
        proof = FinalityProof(txid, genesis.masternode_set.hash, tuple(signed_vote(batch, 0) for batch in batches))
        import json

        return json.loads(codec.encode(proof))

    def assert_never_final(self, bend: Any) -> None:
        client = self.world.client()
        self.world.bend = bend
        payment = client.submit(self.payment())
        self.world.run(3 * ASK_AGAIN)
        self.assertIsNone(payment.proof)
        self.assertGreater(client.belief.lies, 0)

    def test_final_without_a_proof(self) -> None:
        """The field left out."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "UTXOStateNotification":
                message.pop("proof", None)
            return None if message["type"] == "FinalityProofs" else message

        self.assert_never_final(bend)

    def test_a_proof_by_strangers(self) -> None:
        """Well signed by keys that are nobody's."""
        self._with_proof(lambda txid: self.false_proof(txid, [STRANGER]))

    def test_a_proof_of_another_payment(self) -> None:
        """Genuine, and of something else."""
        self._with_proof(lambda txid: self.false_proof("00" * 32, [key(1)]))

    def test_lock_votes_dressed_up_as_a_proof(self) -> None:
        """Signed by the masternode, for locking only."""
        self._with_proof(lambda txid: self.false_proof(txid, [key(1)], VoteKind.LOCK))

    def _with_proof(self, make: Any) -> None:
        txid = self.payment().txid

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if "proof" in message:
                message["proof"] = make(txid)
            if "proofs" in message:
                message["proofs"] = [make(txid)]
            return message

        self.assert_never_final(bend)

    def watched(self, bend: Any) -> tuple[list[Change], Any]:
        client = self.world.client()
        self.world.bend = bend
        changes: list[Change] = []
        waiting = ensureDeferred(client.watch(changes.append, addresses=[address(self.world.node.wallets[1])]))
        self.world.run(0.3)
        self.successResultOf(waiting)
        self.world.node.integration.process_transaction(self.payment())
        self.world.run(0.5)
        return changes, client

    def test_a_larger_amount_than_was_paid(self) -> None:
        """The output is compared with the proven transaction's."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOStateNotification":
                message["output"]["amount"] *= 1_000
            return message

        changes, client = self.watched(bend)
        self.assertEqual(len(changes), 4)
        self.assertGreater(client.belief.lies, 0)

    def test_a_coin_that_genesis_does_not_know(self) -> None:
        """A snapshot with an invented coin of genesis, and one with a false amount."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed":
                message["states"][0]["outpoint"]["vout"] = 9_999
                message["states"][1]["output"]["amount"] += 1
            return message

        changes, client = self.watched(bend)
        self.assertEqual(len([change for change in changes if change.outpoint.txid == self.world.node.genesis.hash]), 2)
        self.assertEqual(client.belief.lies, 2)

    def test_a_transaction_that_is_not_the_one_named(self) -> None:
        """Its hash is computed, not read."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "TransactionInfo":
                message["tx"]["outputs"][0]["amount"] *= 2
            return message

        changes, _ = self.watched(bend)
        self.assertEqual(len(changes), 4)

    def test_spent_by_a_transaction_that_does_not_spend_it(self) -> None:
        """A genuine proof of another payment does not take a coin away."""
        node = self.world.node
        node.integration.process_transaction(self.payment(1))
        final = self.payment(1).txid
        record = node.store.transaction(final)
        assert record is not None

        async def ask(request: Any) -> Any:
            return messages.TransactionInfo(tx=record.tx, status="final", proof=record.proof)

        belief = Belief(node.genesis, ask)
        self.failureResultOf(ensureDeferred(belief.coin_is_spent(self.coin(0), final)), Lie)
        self.successResultOf(ensureDeferred(belief.coin_is_spent(self.coin(1), final)))

    def test_a_signature_is_checked_once(self) -> None:
        """Of a payment that is shown again, by its votes or by its block, none is checked a second time."""
        node = self.world.node
        node.integration.process_transaction(self.payment(1))
        node.make_block()
        tx = self.payment(1)
        info = node.view.transaction(tx.txid)
        belief = Belief(node.genesis, None)
        self.assertGreater(self.checked(lambda: belief.check(info.proof, tx.txid)), 0)
        self.assertEqual(self.checked(lambda: belief.check(info.proof, tx.txid)), 0)
        self.assertGreater(self.checked(lambda: belief.check(info.inclusion, tx.txid)), 0)
        belief._places.clear()
        self.assertEqual(self.checked(lambda: belief.check(info.inclusion, tx.txid)), 0)

    def checked(self, do: Callable[[], object]) -> int:
        """How many signatures ``do()`` looks at."""
        with mock.patch("timeproto.model.keys.nacl.bindings.crypto_sign_open") as opened:
            do()
        return opened.call_count

    def test_proofs_are_checked_against_our_own_set(self) -> None:
        """A node with another masternode set proves nothing to us."""
        other = MasternodeSet(voter.public_hex for voter in VOTERS)
        votes = tuple(
            signed_vote(sign_batch(v, self.world.node.genesis.hash, other.hash, 0, commit=["aa" * 32]), 0)
            for v in VOTERS
        )

        async def ask(request: Any) -> Any:
            raise AssertionError("not asked")

        belief = Belief(self.world.node.genesis, ask)
        with self.assertRaises(Lie):
            belief.check(FinalityProof("aa" * 32, other.hash, votes), "aa" * 32)
