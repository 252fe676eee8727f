"""The wallet's service: payments that end, watches that miss nothing, and no belief in any node's word."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import COIN, address, key, pay
from tests.examples import STRANGER, VOTERS
from tests.test_wallet.world import World
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.masternode.service import Dispatcher
from timeproto.model.certificate import FinalityProof, signed_vote
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import SpentFinalized, kind, to_wire
from timeproto.model.vote import VoteKind, sign_batch
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.account import Account
from timeproto.wallet.belief import Belief, Lie
from timeproto.wallet.client import ASK_AGAIN, WalletClient
from timeproto.wallet.coins import InsufficientFunds
from timeproto.wallet.purse import MemoryPurse
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


class Accounts(ClientCase):
    """Money: selection, reservation, restore."""

    PHRASE = "abandon " * 11 + "about"

    def setUp(self) -> None:
        from timeproto.wallet import hd

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

    def account(self, purse: MemoryPurse | None = None) -> tuple[Account, MemoryPurse]:
        purse = purse or MemoryPurse(self.PHRASE)
        account = Account(purse, self.world.client(), now=lambda: 0)
        self.outcome(account.open())
        return account, purse

    def test_a_hundred_sends_at_once_pick_no_coin_twice(self) -> None:
        """As many as there are coins go through; the others are told what is free (failure 11)."""
        account, purse = self.account()
        total = account.balance().total
        self.assertEqual(total, 36 * COIN)
        to = address(self.world.node.wallets[0])
        payments, poor = [], 0
        for _ in range(100):
            try:
                payments.append(account.send(to, COIN))
            except InsufficientFunds:
                poor += 1
            self.assertEqual(account.balance().total, total)
        self.world.run(0.5)
        self.assertEqual((len(payments), poor), (4, 96))
        spent = [outpoint for payment in payments for outpoint in payment.tx.outpoints]
        self.assertEqual(len(spent), len(set(spent)))
        self.assertTrue(all(payment.proof is not None for payment in payments))
        self.world.run(0.5)
        fees = sum(payment.tx.fee for payment in payments)
        self.assertEqual(account.balance().total, total - 4 * COIN - fees)
        self.assertEqual(purse.pending, [])

    def test_a_refused_payment_lets_go_of_its_coins(self) -> None:
        """Reserved while it is undecided, and no longer once a node refused it."""
        account, purse = self.account()
        self.world.bend = lambda message: None if message["type"] == "UTXOStateNotification" else message
        for coin in account.book.free():  # another device with the same keys was faster, and we were not told
            elsewhere = pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=7)
            self.world.node.integration.process_transaction(elsewhere)
        payment = account.send(address(self.world.node.wallets[0]), COIN)
        self.assertGreater(account.balance().pending, 0)
        self.world.run(0.3)
        refusal = self.failureResultOf(payment.when_final(), Refusal).value
        self.assertIs(refusal.code, ErrorCode.DOUBLE_SPEND)
        self.assertEqual((account.balance().pending, purse.pending), (0, []))

    def test_a_wallet_that_dies_sends_the_same_again(self) -> None:
        """The payment was written down before it left; the next life finishes it, and no other."""
        account, purse = self.account()
        self.world.bend = lambda message: None
        payment = account.send(address(self.world.node.wallets[0]), COIN)
        self.world.run(0.2)
        self.assertEqual([tx.txid for tx in purse.pending], [payment.txid])
        account.client.stopService()
        self.failureResultOf(payment.when_final(), ConnectionGone)
        self.world.run(0.5)
        self.world.bend = lambda message: message
        again, _ = self.account(purse)
        self.world.run(1)
        self.assertEqual(purse.pending, [])
        self.assertEqual(again.balance().total, 36 * COIN - COIN - payment.tx.fee)

    def test_a_payment_that_may_be_locked_is_not_given_up(self) -> None:
        """Accepted once, a later refusal by a node that is behind frees nothing: it is sent again until it is final."""
        account, purse = self.account()
        self.world.node.hold()
        payment = account.send(address(self.world.node.wallets[0]), COIN)
        self.world.run(0.2)
        self.world.cut()  # nobody knows whether it was locked
        answers = ["unknown_input", "double_spend", "unknown_input"]

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if answers and message["type"] == "UTXOStateNotification":
                return None  # a node that is behind does not know of the payment's end either
            if answers and message["type"] == "TransactionAccepted":
                return {"type": "Error", "id": message["id"], "code": answers.pop(0), "message": "no"}
            return message

        self.world.bend = bend
        self.world.node.release()
        self.world.run(0.6)
        self.assertIsNone(payment.error)
        self.assertEqual([tx.txid for tx in purse.pending], [payment.txid])
        self.world.run(20)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(purse.pending, [])

    def test_a_rival_that_is_proven_ends_it(self) -> None:
        """The double spend that is final elsewhere ends a payment of an earlier life, with the proof of the rival."""
        account, _ = self.account()
        coin = account.book.free()[0]
        lost = pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=8)
        self.world.node.integration.process_transaction(
            pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=9)
        )
        payment = account.client.submit(lost, again=True)
        self.world.run(1)
        self.assertIs(self.failureResultOf(payment.when_final(), Refusal).value.code, ErrorCode.DOUBLE_SPEND)

    def test_a_rule_every_node_keeps_ends_what_nobody_took(self) -> None:
        """Sent, not answered, then refused for breaking a rule: it is not carried along for ever."""
        account, purse = self.account()
        self.world.bend = lambda message: None
        payment = account.send(address(self.world.node.wallets[0]), COIN)
        self.world.run(0.2)

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "TransactionAccepted":
                return {"type": "Error", "id": message["id"], "code": "fee_too_low", "message": "no"}
            return None if message["type"] == "UTXOStateNotification" else message  # for nobody took it

        self.world.bend = bend
        self.world.cut()
        self.world.run(2)
        self.assertIs(self.failureResultOf(payment.when_final(), Refusal).value.code, ErrorCode.FEE_TOO_LOW)
        self.assertEqual(purse.pending, [])

    def test_a_rival_told_and_proven_ends_it_and_words_do_not(self) -> None:
        """Another device spends our coin while ours is on its way: over with the rival's proof, not without it."""
        account, _ = self.account()
        coin = account.book.free()[0]
        rival = pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=9)
        lost = pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=8)
        self.world.bend = lambda message: None if message["type"] == "Error" else message
        payment = account.client.submit(lost, again=True)
        client = account.client
        words = messages.UTXOStateNotification(
            notification=messages.StateChange(
                coin.outpoint, None, to_wire(SpentFinalized(rival.txid, 1, 1)), 1, key(1).public_hex
            ),
            cursor=messages.Cursor(key(1).public_hex, 1),
            output=TxOutput(coin.amount, coin.address),
        )
        client._notified(words)
        self.world.run(0.2)
        self.assertIsNone(payment.error)
        self.assertGreater(client.belief.lies, 0)

    def test_spent_coins_do_not_come_back(self) -> None:
        """A node that is behind shows a coin as Unspent that this wallet has proven spent."""
        account, _ = self.account()
        coin = account.book.free()[0]
        account.book.spent(coin.outpoint)
        account.book.add(coin)
        self.assertNotIn(coin.outpoint, account.book)

    def test_restore_finds_what_was_used(self) -> None:
        """By gap limit, spent addresses included, and the indices below."""
        from timeproto.wallet import hd

        seventh = hd.derive(self.PHRASE, index=7)
        node = self.world.node
        giver = node.wallets[0]
        owned = [o for o, out in node.genesis.coins() if out.address == address(giver)]
        node.integration.process_transaction(
            pay(node.genesis, [(owned[0], 10 * COIN, giver)], [(address(seventh), 2 * COIN)])
        )
        purse = MemoryPurse(self.PHRASE)
        purse.receive_index = 0
        account = Account(purse, self.world.client(), now=lambda: 0)
        self.assertEqual(self.outcome_of_many(account.restore()), 2)
        self.assertEqual((purse.receive_index, purse.change_index), (8, 0))
        self.outcome(account.open())
        self.assertEqual(account.balance().total, 38 * COIN)

    def outcome_of_many(self, coroutine: Any) -> Any:
        waiting = ensureDeferred(coroutine)
        self.world.run(3)
        return self.successResultOf(waiting)

    def test_a_client_with_a_purse_has_money(self) -> None:
        """``send`` and ``balance`` by themselves: connected, opened and proven before they answer."""
        purse = MemoryPurse(self.PHRASE)
        client = WalletClient(self.world.clock, self.world.node.genesis, [], rotation=self.world, purse=purse)
        client.startService()
        balance, sending = client.balance(), client.send(address(self.world.node.wallets[0]), COIN)
        self.world.run(2)
        self.assertEqual(self.successResultOf(balance).total, 36 * COIN)
        payment = self.successResultOf(sending)
        self.world.run(0.5)
        final = client.wait_final(payment.txid)
        self.world.run(0.1)
        self.assertEqual(self.successResultOf(final).txid, payment.txid)
        later = client.balance()
        self.world.run(0.5)
        self.assertEqual(self.successResultOf(later).total, 35 * COIN - payment.tx.fee)
        poor = client.send(address(self.world.node.wallets[0]), 10**15)
        self.world.run(0.1)
        self.failureResultOf(poor, InsufficientFunds)

    def test_a_client_without_a_purse_has_none(self) -> None:
        """It says so, and goes on watching."""
        client = self.world.client()
        self.failureResultOf(client.balance(), ConfigurationError)

    def test_a_claim_is_no_money(self) -> None:
        """A coin the node cannot prove never enters the balance."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed":
                for state in message["states"]:
                    state["output"]["amount"] += 1
            return message

        self.world.bend = bend
        account, _ = self.account()
        self.assertEqual(account.balance().total, 0)
