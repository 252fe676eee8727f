"""Nodes that are behind, say something else than the last one did, or lie: no money is lost or invented by it."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from twisted.internet.defer import ensureDeferred

from tests.cluster import COIN, address, key, pay
from tests.test_wallet.test_client import ClientCase
from tests.test_wallet.world import World
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.certificate import FinalityProof, signed_vote
from timeproto.model.transaction import Transaction
from timeproto.model.vote import sign_batch
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import hd
from timeproto.wallet.account import Account
from timeproto.wallet.addresses import GAP_LIMIT
from timeproto.wallet.belief import Lie
from timeproto.wallet.client import ASK_AGAIN, WalletClient
from timeproto.wallet.purse import MemoryPurse
from timeproto.wire import codec

PHRASE = "abandon " * 11 + "about"


def as_json(noun: Any) -> Any:
    return json.loads(codec.encode(noun))


class Case(ClientCase):
    def proof(self, txid: str) -> Any:
        """A genuine proof: the world's one masternode signs a commit vote for ``txid``."""
        genesis = self.world.node.genesis
        batch = sign_batch(key(1), genesis.hash, genesis.masternode_set.hash, 0, commit=[txid])
        return as_json(FinalityProof(txid, genesis.masternode_set.hash, (signed_vote(batch, 0),)))

    def refusing(self, code: str, **details: Any) -> Any:
        """A node that answers every payment with this error."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "TransactionAccepted":
                error = {"type": "Error", "id": message["id"], "code": code, "message": "no"}
                return error | ({"details": details} if details else {})
            return None if message["type"] in ("UTXOStateNotification", "FinalityProofs") else message

        return bend

    def rival_of(self, tx: Transaction) -> Transaction:
        spends = [(tx.outpoints[0], 10 * COIN, self.wallet)]
        return pay(self.world.node.genesis, spends, [(address(self.world.node.wallets[2]), 2 * COIN)], timestamp=9)


class AfterItLeft(Case):
    """A payment that one node took is not over because another one says no."""

    def accepted(self) -> tuple[Any, Any]:
        client = self.world.client()
        self.world.bend = lambda message: None if message["type"] == "UTXOStateNotification" else message
        payment = client.submit(self.payment())
        self.world.run(0.2)
        self.assertTrue(payment.is_accepted)
        return client, payment

    def test_a_node_that_is_behind_does_not_end_it(self) -> None:
        """Taken by the first, unknown coin or rival at the next: still undecided, and final in the end."""
        for code in ("unknown_input", "double_spend", "over_limit", "bad_signature"):
            self.world = World()
            self.wallet = self.world.node.wallets[0]
            _, payment = self.accepted()
            self.world.bend = self.refusing(code, **({"conflicting_txid": "ab" * 32} if code == "double_spend" else {}))
            self.world.cut()
            self.world.run(2)
            self.assertIsNone(payment.error, code)
            self.world.bend = lambda message: message
            self.world.cut()
            self.world.run(2 * ASK_AGAIN)
            self.assertIsNotNone(payment.proof, code)

    def test_no_answer_and_then_a_no(self) -> None:
        """The connection broke before the answer: it may have left, and the next node's word is not the last."""
        client = self.world.client()
        self.world.bend = lambda message: None
        payment = client.submit(self.payment())
        self.world.run(0.2)
        self.world.bend = self.refusing("unknown_input")
        self.world.cut()
        self.world.run(2)
        self.assertIsNone(payment.error)
        self.world.bend = lambda message: message
        self.world.run(3 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)

    def test_no_answer_in_time_and_then_a_no(self) -> None:
        """A node that was too slow to answer, or failed, may have locked the coins all the same."""
        for first in ("timeout", "internal", "going_away"):
            self.world = World()
            self.wallet = self.world.node.wallets[0]
            client = self.world.client()
            self.world.bend = self.refusing(first)
            payment = client.submit(self.payment())
            self.world.run(0.2)
            self.world.bend = self.refusing("double_spend", conflicting_txid="ab" * 32)
            self.world.run(2 * ASK_AGAIN)
            self.assertIsNone(payment.error, first)
            self.world.bend = lambda message: message
            self.world.run(4 * ASK_AGAIN)
            self.assertIsNotNone(payment.proof, first)

    def test_a_node_that_is_full_does_not_end_it(self) -> None:
        """A limit of a connection is not a rule of payments: what may have left goes on."""
        client = self.world.client()
        self.world.bend = lambda message: None
        payment = client.submit(self.payment())
        self.world.run(0.2)
        self.world.bend = self.refusing("over_limit")
        self.world.cut()
        self.world.run(2)
        self.assertIsNone(payment.error)

    def test_the_first_node_says_no(self) -> None:
        """Nothing left: it is over at once."""
        client = self.world.client()
        self.world.bend = self.refusing("unknown_input")
        payment = client.submit(self.payment())
        self.world.run(0.2)
        self.assertIs(self.failureResultOf(payment.when_final(), Refusal).value.code, ErrorCode.UNKNOWN_INPUT)


class Rivals(Case):
    """Another transaction for the same coin."""

    def tell(self, rival: Transaction, told: Transaction, proof: Any) -> None:
        """The node says that the coin is spent by ``rival``, shows ``proof``, and ``told`` as the transaction."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "UTXOStateNotification":
                new = {"SpentFinalized": {"txid": rival.txid, "finalized_at": 1, "votes": 1}}
                message["notification"]["new_state"] = new
                message["proof"] = proof
            elif message["type"] == "TransactionInfo":
                message["tx"], message["proof"], message["status"] = as_json(told), proof, "final"
            elif message["type"] == "FinalityProofs":
                message["proofs"] = [proof]
            return message

        self.world.bend = bend

    def test_a_proven_rival_ends_it(self) -> None:
        """A genuine proof for a transaction that spends our coin: ours can never be final, and says which won."""
        client = self.world.client()
        self.world.node.hold()
        payment = client.submit(self.payment())
        self.world.run(0.2)
        rival = self.rival_of(payment.tx)
        self.tell(rival, rival, self.proof(rival.txid))
        client.belief.remember(rival)
        self.world.node.release()
        self.world.run(0.3)
        refusal = self.failureResultOf(payment.when_final(), Refusal).value
        self.assertIs(refusal.code, ErrorCode.DOUBLE_SPEND)
        self.assertEqual(refusal.details["conflicting_txid"], rival.txid)

    def test_a_rival_without_a_proof_ends_nothing(self) -> None:
        """Strangers' votes, a proof of something else, a transaction that spends another coin: all only words."""
        other = self.payment(1)
        for told, proof in (
            (None, None),
            (None, self.proof("ab" * 32)),
            (other, self.proof(other.txid)),
        ):
            self.world = World()
            self.wallet = self.world.node.wallets[0]
            client = self.world.client()
            payment = client.submit(self.payment())
            rival = self.rival_of(payment.tx) if told is None else told
            self.tell(rival, rival, proof)
            self.world.run(1)
            self.assertIsNone(payment.error)
            self.assertGreater(client.belief.lies, 0)
            client.stopService()
            self.world.run(0.5)


class Money(Case):
    def setUp(self) -> None:
        super().setUp()
        self.mine = hd.derive(PHRASE)
        self.world = World(wallets=2, coins=4)
        node = self.world.node
        giver = node.wallets[1]
        owned = [o for o, out in node.genesis.coins() if out.address == address(giver)]
        for number in range(2):
            tx = pay(node.genesis, [(owned[number], 10 * COIN, giver)], [(address(self.mine), 9 * COIN)])
            node.integration.process_transaction(tx)

    def account(self) -> Account:
        return Account(MemoryPurse(PHRASE), self.world.client(), now=lambda: 0)

    def test_a_spent_coin_does_not_come_back(self) -> None:
        """We hold the proof that it is spent; a node that is behind lists it as free all the same."""
        account = self.account()
        self.outcome(account.open())
        payment = account.send(address(self.world.node.wallets[0]), COIN)
        self.world.run(0.5)
        self.assertIsNotNone(payment.proof)
        rest = account.balance()
        spent = payment.tx.outpoints[0]
        for state in ("Unspent", {"Locked": {"txid": "ab" * 32, "locked_at": 1}}):
            stale = {
                "outpoint": as_json(spent),
                "state": state,
                "output": {"amount": 9 * COIN, "address": address(self.mine)},
            }

            def bend(message: dict[str, Any], stale: Any = stale) -> dict[str, Any]:
                if message["type"] == "UTXOSubscribed":
                    message["states"].append(stale)
                return message

            self.world.bend = bend
            self.world.cut()
            self.world.run(5)
            self.assertEqual(account.balance(), rest)

    def test_a_balance_that_was_read_by_half_is_none(self) -> None:
        """The node leaves while the coins are being checked: an error, not a smaller number."""
        account = self.account()
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        opening = ensureDeferred(account.open())
        self.world.run(0.2)
        self.world.refuses = True
        self.world.cut()
        self.failureResultOf(opening, ConnectionGone)
        self.world.refuses, self.world.bend = False, lambda message: message
        self.world.run(10)
        self.outcome(account.open())
        self.assertEqual(account.balance().total, 18 * COIN)

    def test_no_node_no_balance(self) -> None:
        """Opened while nobody is connected, it says so."""
        account = self.account()
        self.world.refuses = True
        self.world.cut()
        opening = ensureDeferred(account.open())
        self.world.run(0.2)
        self.failureResultOf(opening, ConnectionGone)

    def test_invented_coins_do_not_keep_a_restore_going(self) -> None:
        """A coin on every address there is: the search stops at the first that is not proven."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "AddressUTXOs":
                output = {"amount": COIN, "address": message["address"]}
                invented = {"outpoint": {"txid": "ab" * 32, "vout": 0}, "state": "Unspent", "output": output}
                message["coins"] = [invented]
            return message

        self.world.bend = bend
        purse = MemoryPurse(PHRASE, receive_index=0)
        account = Account(purse, self.world.client(), now=lambda: 0)
        restoring = ensureDeferred(account.restore())
        self.world.run(1)
        self.failureResultOf(restoring, Lie)
        self.assertEqual(purse.receive_index, 0)

    def test_somebody_elses_coin_does_not_make_an_address_used(self) -> None:
        """A genuine coin, proven, of another address."""
        coin = next(iter(self.world.node.genesis.coins()))

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "AddressUTXOs":
                message["coins"] = [
                    {"outpoint": as_json(coin[0]), "state": "Unspent", "output": as_json(coin[1])}
                ]
            return message

        self.world.bend = bend
        purse = MemoryPurse(PHRASE, receive_index=0)
        restoring = ensureDeferred(Account(purse, self.world.client(), now=lambda: 0).restore())
        self.world.run(1)
        self.failureResultOf(restoring, Lie)

    def test_pages_that_never_end(self) -> None:
        """The same page again and again is a lie, not a list."""

        first: list[Any] = []

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "AddressUTXOs":
                first[:] = first or message["coins"]
                message["coins"], message["more"] = first, True
            return message

        self.world.bend = bend
        client = self.world.client()
        asking = ensureDeferred(client.address_coins(address(self.world.node.wallets[0])))
        self.world.run(1)
        self.failureResultOf(asking, Lie)

    def test_a_thousand_coins_of_one_payment(self) -> None:
        """Fetched once, checked one after the other: as many as there are, with any stack."""
        node = self.world.node
        giver = node.wallets[1]
        owned = [o for o, out in node.genesis.coins() if out.address == address(giver)]
        outputs = [(address(self.mine), 10_000)] * 900
        node.integration.process_transaction(pay(node.genesis, [(owned[2], 10 * COIN, giver)], outputs, fee=10**6))
        account = self.account()
        opening = ensureDeferred(account.open())
        self.world.run(1)
        self.successResultOf(opening)
        self.assertEqual(account.balance().total, 18 * COIN + 900 * 10_000)

    def test_dust_is_refused_before_anything_is_used_up(self) -> None:
        """No address for change, no coin, no word to the node."""
        purse = MemoryPurse(PHRASE)
        account = Account(purse, self.world.client(), now=lambda: 0)
        self.outcome(account.open())
        before = account.balance()
        for amount in (-1, 0, 1, 999):
            error = self.assertRaises(Refusal, account.send, address(self.world.node.wallets[0]), amount)
            self.assertIs(error.code, ErrorCode.DUST)
        self.assertEqual((account.balance(), purse.change_index, purse.pending), (before, 0, []))

    def test_addresses_that_a_restore_would_not_reach(self) -> None:
        """Counted from the newest back to the last one that was paid."""
        account = self.account()
        self.outcome(account.open())
        self.assertEqual(self.outcome(account.unpaid_addresses()), 0)
        for _ in range(3):
            account.new_address()
        self.assertEqual(self.outcome(account.unpaid_addresses()), 3)
        for _ in range(30):
            account.new_address()
        self.assertEqual(self.outcome(account.unpaid_addresses()), GAP_LIMIT)


class Bounds(Case):
    """What a node can make a wallet keep or do."""

    def test_a_payment_too_long_for_its_frame(self) -> None:
        """Refused before it leaves: every node would hang up on it, and it would be sent again for ever."""
        self.world = World(wallets=2, coins=300)
        node = self.world.node
        owner = node.wallets[0]
        spends = [(o, 10 * COIN, owner) for o, out in node.genesis.coins() if out.address == address(owner)]
        client = self.world.client()
        payment = client.submit(pay(node.genesis, spends, [(address(node.wallets[1]), COIN)], fee=10**6))
        self.world.run(10)
        refusal = self.failureResultOf(payment.when_final(), Refusal).value
        self.assertIs(refusal.code, ErrorCode.FRAME_TOO_LARGE)
        self.assertEqual(self.world.connections, 1)

    def test_more_news_than_it_lets_be_checked(self) -> None:
        """The line has an end: then the node is left, and the next connection begins with what is."""
        client = self.world.client()
        changes: list[Any] = []
        to = self.world.node.wallets[1]
        self.outcome(client.watch(changes.append, addresses=[address(to)]))
        self.world.run(0.2)
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        with mock.patch("timeproto.wallet.line.BEHIND", 2):
            for number in range(4):
                self.world.node.integration.process_transaction(self.payment(number))
            self.world.run(1.5)  # the pause before the next connection is a matter of chance, and shorter
            self.assertEqual((len(changes), self.world.connections), (4, 2))
        self.world.bend = lambda message: message
        self.world.run(2 * limits.REQUEST_TIME)  # what was swallowed is given up, and asked for again elsewhere
        self.assertEqual(len(changes), 8)
        self.assertTrue(client.is_current)
        self.assertTrue(all(change.proven for change in changes))

    def test_a_liar_is_left_for_another_node(self) -> None:
        """With somebody else to ask, one lie is enough; and it is logged once."""
        self.world.size = 2
        client = self.world.client()

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOStateNotification":
                message.pop("proof", None)
            return message

        self.world.bend = bend
        payment = client.submit(self.payment())
        self.world.run(2 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)  # the next one was asked for it
        self.assertEqual((self.world.connections, client.belief.lies), (2, 1))

    def test_connected_means_to_a_node_that_is_kept(self) -> None:
        """The first one lies in its very snapshot and is left: who waits for a node waits for the next one."""
        self.world.size = 2

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed" and self.world.connections == 1:
                message["states"][-1]["output"]["amount"] += 1
            return message

        self.world.bend = bend
        client = WalletClient(self.world.clock, self.world.node.genesis, [], rotation=self.world)
        changes: list[Any] = []
        client.watch(changes.append, addresses=[address(self.wallet)])
        client.watches._watches[0].untaken.clear()  # as if a node had taken it before
        found: list[Any] = []
        client.when_connected().addCallback(lambda _: found.append((self.world.connections, client.is_current)))
        client.startService()
        self.world.run(5)
        self.assertEqual(found, [(2, True)])
        self.assertEqual(len({change.outpoint for change in changes}), 4)

    def test_a_node_is_left_as_soon_as_it_may_be(self) -> None:
        """Two nodes in a row are too busy to be asked: the second is left a little later, and nothing is missed."""
        client = self.world.client()
        changes: list[Any] = []
        self.outcome(client.watch(changes.append, addresses=[address(self.world.node.wallets[1])]))
        self.world.run(0.2)

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "TransactionInfo" and self.world.connections <= 2:
                return {"type": "Error", "id": message["id"], "code": "busy", "message": "later"}
            return message

        self.world.bend = bend
        self.world.node.integration.process_transaction(self.payment())
        self.world.run(3 * ASK_AGAIN)
        self.assertEqual((len(changes), self.world.connections, client.is_current), (5, 3, True))
