"""The verify stage: what does not hold is taken out and counted against its sender, and nothing is checked twice."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import (
    ALICE,
    BOB,
    GENESIS,
    MASTERNODES,
    PAYMENT,
    STRANGER,
    VOTERS,
    address,
    batch,
    build,
    proof_of,
    replace,
)
from timeproto import limits
from timeproto.consensus import verifier as module
from timeproto.consensus.effects import Cancel, Heard, Input, LinkUp, Submit, Tick
from timeproto.consensus.verifier import Verified, Verifier
from timeproto.errors import Refusal
from timeproto.model import keys, validation
from timeproto.model.keys import SigningKey
from timeproto.model.lanes import Signed
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import SpentFinalized, to_wire
from timeproto.model.vote import sign_batch
from timeproto.params import COIN
from timeproto.wire import messages

SENDER = VOTERS[3].public_hex
FORGED = replace(PAYMENT, signature=tuple(64 * [7]))
OTHER = build([(Outpoint(GENESIS.hash, 1), ALICE)], [(500 * COIN - 10_000, address(BOB))])


def cancel_of(owner: SigningKey, txid: str) -> messages.TransactionCancel:
    unsigned = messages.TransactionCancel(txid=txid, key=owner.public_hex, signature="0" * 128)
    return replace(unsigned, signature=owner.sign(unsigned.message(GENESIS.hash)).hex())


class Stage(SynchronousTestCase):
    def setUp(self) -> None:
        self.verifier = Verifier(GENESIS)
        self.checked = {"transactions": 0, "batches": 0, "cancels": 0}
        self.count_calls(validation, "transactions")

    def count_calls(self, where: Any, name: str) -> None:
        real = where.verify

        def counting(*given: bytes) -> bool:
            self.checked[name] += 1
            return bool(real(*given))

        self.patch(where, "verify", counting)

    def check(self, *entries: Input, known: dict[str, Transaction] | None = None) -> Verified:
        return self.verifier.check([(entry, known or {}) for entry in entries])

    def hear(self, message: Any, **more: Any) -> tuple[Any, list[str]]:
        """What is left of a message (None if nothing), and the codes its sender is blamed with."""
        verified = self.check(Heard(message, SENDER), **more)
        self.assertTrue(all(key == SENDER for key, _ in verified.blame))
        left = [entry.message for entry in verified.inputs if isinstance(entry, Heard)]
        return (left[0] if left else None), [str(refusal.code) for _, refusal in verified.blame]


class WhatDoesNotHold(Stage):
    def test_bad_transactions_are_taken_out_of_a_page(self) -> None:
        """The good ones of the same page stay, in their order."""
        page = messages.Transactions(transactions=(PAYMENT, FORGED, OTHER))
        self.assertEqual(self.hear(page), (messages.Transactions(transactions=(PAYMENT, OTHER)), ["bad_signature"]))
        self.assertEqual(self.hear(messages.TransactionBroadcast(tx=FORGED)), (None, ["bad_signature"]))

    def test_bad_batches_are_taken_out_of_an_answer(self) -> None:
        """Forged, altered, by a stranger, for another set, for another network (B-06 to B-08)."""
        good = batch(VOTERS[1], lock=[PAYMENT.txid])
        bad = [
            replace(good, voter=VOTERS[2].public_hex),
            replace(good, lock=(OTHER.txid,)),
            replace(good, height=1),
            replace(good, lock=(), commit=good.lock),
            batch(STRANGER, lock=[PAYMENT.txid]),
            sign_batch(VOTERS[1], GENESIS.hash, "00" * 32, 0, lock=[PAYMENT.txid]),
            sign_batch(VOTERS[1], "00" * 32, MASTERNODES.hash, 0, lock=[PAYMENT.txid]),
        ]
        left, blame = self.hear(messages.Votes(batches=(*bad[:3], good, *bad[3:]), voter=SENDER, more=True))
        self.assertEqual(left, messages.Votes(batches=(good,), voter=SENDER, more=True))
        self.assertEqual(blame, ["bad_vote"] * len(bad))
        for each in bad:
            self.assertEqual(self.hear(each), (None, ["bad_vote"]))

    def test_bad_proofs_are_taken_out_wherever_they_stand(self) -> None:
        """Too few votes, lock votes, another network's: out of pages, answers and hints (B-10)."""
        good = proof_of(PAYMENT.txid)
        for bad in (
            proof_of(PAYMENT.txid, VOTERS[:4]),
            replace(good, txid=OTHER.txid),
            replace(good, votes=good.votes[:4] + good.votes[:1]),
            proof_of(PAYMENT.txid, genesis_hash="00" * 32),
        ):
            for kind in (messages.FinalityProofs, messages.Transactions, messages.Votes):
                left, blame = self.hear(kind(proofs=(bad, good)))
                self.assertEqual((left.proofs, blame), ((good,), ["bad_proof"]))
            state = to_wire(SpentFinalized(PAYMENT.txid, 1, 5))
            hint = messages.UTXOStateNotification(
                notification=messages.StateChange(PAYMENT.outpoints[0], None, state, 1, SENDER),
                cursor=messages.Cursor(SENDER, 1),
                output=GENESIS.allocations[0],
                proof=bad,
            )
            self.assertEqual(self.hear(hint), (None, ["bad_proof"]))
            self.assertEqual(self.hear(replace(hint, proof=good))[1], [])

    def test_a_wallet_is_told_which_rule_it_broke(self) -> None:
        """A refused submission is answered with its own code, and the others of the batch go on."""
        verified = self.check(Submit(FORGED, "a"), Submit(PAYMENT, "b"), Submit(replace(OTHER, txid="00" * 32), "c"))
        self.assertEqual([entry.ticket for entry in verified.inputs if isinstance(entry, Submit)], ["b"])
        self.assertEqual([(ticket, str(refusal.code)) for ticket, refusal in verified.refused],
                         [("a", "bad_signature"), ("c", "txid_mismatch")])
        self.assertEqual(verified.blame, [])

    def test_what_is_not_signed_passes_untouched(self) -> None:
        """Requests, links and time go through in their order."""
        entries: list[Input] = [Tick(), LinkUp(SENDER), Heard(messages.GetFinalized(since=4), SENDER), Tick()]
        self.assertEqual(self.check(*entries).inputs, entries)

    def test_what_cannot_be_judged_is_left_out_and_the_rest_lives(self) -> None:
        """An exception nobody foresaw, in one input of a batch: that one fails, and the shell is told (P-22)."""
        real = module.check_stateless

        def poisoned(tx: Transaction, *more: Any) -> None:
            if tx is OTHER:
                raise RuntimeError("poison")
            real(tx, *more)

        self.patch(module, "check_stateless", poisoned)
        told = Heard(messages.TransactionBroadcast(tx=OTHER), SENDER)
        verified = self.check(Submit(OTHER, "a"), told, Submit(PAYMENT, "b"))
        self.assertEqual([(ticket, str(refusal.code)) for ticket, refusal in verified.refused], [("a", "internal")])
        self.assertEqual(verified.inputs, [Submit(PAYMENT, "b")])
        self.assertEqual(verified.blame, [])
        self.assertEqual([type(fault) for fault in verified.faults], [RuntimeError, RuntimeError])


class NothingTwice(Stage):
    def test_a_refusal_is_remembered_by_every_byte(self) -> None:
        """The same invalid transaction a hundred times costs one signature check; another signature another (H-25)."""
        for _ in range(100):
            self.check(Submit(FORGED, "a"), Heard(messages.TransactionBroadcast(tx=FORGED), SENDER))
        self.assertEqual(self.checked["transactions"], 1)
        self.check(Submit(replace(FORGED, signature=tuple(64 * [8])), "a"))
        self.assertEqual(self.checked["transactions"], 2)
        self.assertEqual(self.check(Submit(PAYMENT, "b")).inputs, [Submit(PAYMENT, "b")])

    def test_a_remembered_refusal_keeps_nothing_else_in_memory(self) -> None:
        """No traceback, whose frames would hold the transaction; and each who is told gets one of its own."""
        first, second = (self.check(Submit(FORGED, "a")).refused[0][1] for _ in range(2))
        self.assertIsNot(first, second)
        self.assertEqual((first.code, first.message, first.details), (second.code, second.message, second.details))
        for kept in (*self.verifier._refusals.values(), first, second):
            self.assertIsInstance(kept, Refusal)
            self.assertIsNone(kept.__traceback__)
            self.assertIsNone(kept.__context__)

    def test_refusals_are_bounded(self) -> None:
        """The oldest is forgotten first."""
        self.patch(limits, "REFUSED_CACHE", 3)
        for number in range(10):
            self.check(Submit(replace(PAYMENT, signature=tuple(64 * [number])), "a"))
        self.assertEqual(len(self.verifier._refusals), 3)

    def test_a_second_copy_of_a_batch_costs_nothing_and_still_goes_on(self) -> None:
        """The replica may have had to forget it."""
        self.count_calls(module, "batches")
        first = batch(VOTERS[1], lock=[PAYMENT.txid])
        self.assertEqual(self.hear(first), (first, []))
        for _ in range(20):
            left, _ = self.hear(messages.Votes(batches=(batch(VOTERS[1], lock=[PAYMENT.txid]),)))
            self.assertEqual(left.batches[0], first)
        self.assertEqual(self.checked["batches"], 1)

    def test_a_known_signature_over_other_votes_is_no_copy(self) -> None:
        """Recognised is the whole batch, not its signature."""
        good = batch(VOTERS[1], lock=[PAYMENT.txid])
        self.hear(good)
        for change in (
            {"lock": (OTHER.txid,)}, {"lock": (), "commit": good.lock}, {"lock": (), "abort": good.lock},
            {"commit": good.lock}, {"height": 1}, {"voter": VOTERS[2].public_hex}, {"set": "00" * 32},
        ):  # fmt: skip
            self.assertEqual(self.hear(replace(good, **change)), (None, ["bad_vote"]), change)
            self.assertEqual(self.hear(good), (good, []))

    def test_remembered_batches_are_bounded(self) -> None:
        """The oldest is forgotten first, one that does not hold takes no room, and none keeps its votes (L-7)."""
        self.patch(limits, "VERIFIED_WORDS", 3)
        good = [batch(VOTERS[1], lock=[f"{number:064x}"]) for number in range(10)]
        for each in good:
            self.hear(each)
            self.hear(replace(each, height=1))
        self.assertEqual(list(self.verifier._batches), [each.signature for each in good[-3:]])
        self.assertEqual({len(kept) for kept in self.verifier._batches.values()}, {32})

    def test_a_second_copy_of_a_cancel_costs_nothing(self) -> None:
        """Whoever hands it on, and whatever the request was called; another key or txid under it is none."""
        self.count_calls(module, "cancels")
        good = cancel_of(ALICE, PAYMENT.txid)
        for number in range(20):
            page = messages.Votes(cancels=(good, replace(good, id=number)))
            self.assertEqual(self.hear(page), (page, []))
            self.assertEqual(self.hear(good), (good, []))
            self.assertEqual(self.check(Cancel(good, "a")).inputs, [Cancel(good, "a")])
        self.assertEqual(self.checked["cancels"], 1)
        for bad in (replace(good, txid=OTHER.txid), replace(good, key=BOB.public_hex)):
            self.assertEqual(self.hear(bad), (None, ["bad_signature"]))
            self.assertEqual(self.hear(messages.Votes(cancels=(bad, good)))[0], messages.Votes(cancels=(good,)))

    def test_remembered_cancels_are_bounded(self) -> None:
        """The oldest is forgotten first, and one that does not hold takes no room (L-7)."""
        self.patch(limits, "VERIFIED_WORDS", 3)
        good = [cancel_of(ALICE, f"{number:064x}") for number in range(10)]
        for each in good:
            self.hear(each)
            self.hear(replace(each, signature="0" * 128))
        self.assertEqual([txid for txid, *_ in self.verifier._cancels], [each.txid for each in good[-3:]])

    def test_a_known_transaction_is_not_checked_again(self) -> None:
        """What equals a transaction the replica holds, to the last byte, was verified before."""
        known = {PAYMENT.txid: PAYMENT}
        for _ in range(10):
            self.assertEqual(len(self.check(Submit(PAYMENT, "a"), known=known).inputs), 1)
            self.assertEqual(self.hear(messages.Transactions(transactions=(PAYMENT,)), known=known)[1], [])
        self.assertEqual(self.checked["transactions"], 0)

    def test_a_known_txid_with_other_contents_is_not_known(self) -> None:
        """Neither another body under that txid nor another signature under that body passes as known."""
        known = {PAYMENT.txid: PAYMENT}
        body = replace(PAYMENT, outputs=OTHER.outputs)
        for wrong, code in ((body, "txid_mismatch"), (FORGED, "bad_signature")):
            (_, refusal), = self.check(Submit(wrong, "a"), known=known).refused
            self.assertEqual(refusal.code, code)
            self.assertEqual(self.hear(messages.TransactionBroadcast(tx=wrong), known=known)[0], None)


class Together(Stage):
    """What comes most is looked at ahead, many at once; who judges is the same."""

    def setUp(self) -> None:
        super().setUp()
        self.ahead: list[Signed] = []
        self.patch(module, "checked_together", self.look_ahead)

    def look_ahead(self, signed: Iterable[Signed]) -> AbstractContextManager[None]:
        self.ahead = list(signed)
        return keys.checked_together(self.ahead)

    def test_one_signature_of_each_thing_that_comes(self) -> None:
        """Of transactions, from whomever, and of batches, in the order in which they came."""
        votes = batch(VOTERS[1], lock=[PAYMENT.txid])
        self.check(
            Submit(PAYMENT, "ticket"), Tick(), Heard(votes, SENDER),
            Heard(messages.Transactions(transactions=(OTHER, PAYMENT)), SENDER),
            Heard(messages.TransactionBroadcast(tx=OTHER), SENDER),
        )  # fmt: skip
        paid, other = (validation.signed_by_owners(tx, GENESIS.hash) for tx in (PAYMENT, OTHER))
        self.assertEqual(self.ahead, [*paid, votes.signed(GENESIS.hash), *other, *paid, *other])

    def test_nothing_is_looked_at_that_would_not_be_checked(self) -> None:
        """Known, verified before, of a stranger, under another's txid; or of several owners."""
        known, mine, stranger = (batch(who, lock=[PAYMENT.txid]) for who in (VOTERS[1], VOTERS[2], STRANGER))
        shared = build(
            [(Outpoint(GENESIS.hash, 1), ALICE), (Outpoint(GENESIS.hash, 2), BOB)], [(COIN, address(BOB))]
        )
        self.check(Heard(known, SENDER))
        lied = replace(OTHER, txid=PAYMENT.txid)
        page = messages.Transactions(transactions=(PAYMENT, lied, shared))
        entries = [Heard(known, SENDER), Heard(stranger, SENDER), Heard(page, SENDER), Heard(mine, SENDER)]
        self.check(*entries, known={PAYMENT.txid: PAYMENT})
        self.assertEqual(self.ahead, [mine.signed(GENESIS.hash)])

    def test_what_costs_nothing_where_it_is_judged_costs_nothing_ahead(self) -> None:
        """A batch of another set, whose tree is not made; one batch many times; a transaction that was refused."""
        other_set = replace(sign_batch(VOTERS[1], GENESIS.hash, "00" * 32, 0, lock=[PAYMENT.txid]))
        self.check(Heard(other_set, SENDER))
        self.assertEqual((self.ahead, "tree" in vars(other_set)), ([], False))
        votes = batch(VOTERS[1], lock=[PAYMENT.txid])
        self.check(*[Heard(replace(votes), SENDER) for _ in range(9)])
        self.assertEqual(self.ahead, [votes.signed(GENESIS.hash)])
        self.check(Submit(FORGED, "ticket"))
        self.assertEqual(len(self.ahead), 1)
        self.check(Submit(replace(FORGED), "ticket"), Heard(messages.TransactionBroadcast(tx=OTHER), SENDER))
        self.assertEqual(self.ahead, validation.signed_by_owners(OTHER, GENESIS.hash))

    def test_what_is_wrong_among_many_is_found_as_if_alone(self) -> None:
        """Eight batches and eight transactions, of each one forged: those two are taken out, and nothing else."""
        votes = [batch(voter, lock=[tx.txid]) for voter in VOTERS[:4] for tx in (PAYMENT, OTHER)]
        votes[3] = replace(votes[3], height=7)
        page = [
            build([(Outpoint(GENESIS.hash, vout), ALICE)], [(500 * COIN - 10_000, address(BOB))])
            for vout in range(8)
        ]
        page[5] = replace(page[5], signature=page[4].signature)
        heard = messages.Transactions(transactions=tuple(page))
        verified = self.check(*[Heard(each, SENDER) for each in votes], Heard(heard, SENDER))
        left = messages.Transactions(transactions=(*page[:5], *page[6:]))
        expected = [Heard(each, SENDER) for each in (*votes[:3], *votes[4:], left)]
        self.assertEqual((verified.inputs, verified.faults), (expected, []))
        self.assertEqual([str(refusal.code) for _, refusal in verified.blame], ["bad_vote", "bad_signature"])

    def test_what_cannot_be_looked_at_is_met_where_it_is_judged(self) -> None:
        """A fault of this code in looking ahead costs nobody else his place, and is told once."""
        def broken(*_: Any) -> Any:
            raise RuntimeError("a fault of ours")

        self.patch(module, "signed_by_owners", broken)
        verified = self.check(Submit(PAYMENT, "ticket"), Heard(batch(VOTERS[1], lock=[PAYMENT.txid]), SENDER))
        self.assertEqual((len(verified.inputs), verified.faults, len(self.ahead)), (2, [], 1))
