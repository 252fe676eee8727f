"""What one masternode that floods can do to what others say."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import examples
from tests.alone_node import Node as AloneNode
from tests.cluster import address, key, pay
from tests.examples import DECIDED, PAYMENT, VOTERS, replace
from timeproto import limits
from timeproto.consensus.effects import Heard, Input, LinkDown, LinkUp, Submit, Timer, Wake
from timeproto.consensus.verifier import NONE_KNOWN
from timeproto.masternode.inbox import TURN, Inbox, checks, weight
from timeproto.model.block import BlockVote, BlockVoteKind, Verdict, inclusion_proof
from timeproto.model.certificate import FinalityProof
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import SpentFinalized, to_wire
from timeproto.params import COIN
from timeproto.wire import codec, messages

UNIT, SIGNATURES = 5_500, 5
"""Bytes in memory, and signature checks, that one unit of weight stands for at most."""
SET = "00" * 32


class FloodTests(SynchronousTestCase):
    def test_the_flood_of_one_masternode_leaves_room_for_the_words_of_another(self) -> None:
        """A liar's 13,000 small requests, sent while one commit runs, fill its own part of the inbox and no more."""
        node = AloneNode()
        node.hold()
        node.integration.tick()
        node.integration.process_transaction(
            pay(node.genesis, [(*_coins(node)[0], node.wallets[0])], [(address(node.wallets[1]), COIN)])
        )
        node.integration.process_transaction(  # waits behind the commit of the first
            pay(node.genesis, [(*_coins(node)[1], node.wallets[0])], [(address(node.wallets[1]), COIN)])
        )
        for _ in range(limits.INBOX // 8 + 500):
            node.integration.handle_network_message(messages.GetVotes(), key(2).public_hex)
        before = node.integration.counters.dropped
        node.integration.handle_network_message(messages.GetBlocks(since=0), key(3).public_hex)
        self.assertEqual(before, node.integration.counters.dropped)

    def test_a_flood_of_the_largest_payments_fills_the_room_sooner(self) -> None:
        """What waits is bounded by what it holds in memory: a thousand inputs count as 112 payments, from anybody."""
        node = AloneNode()
        small = pay(node.genesis, [(*_coins(node)[0], node.wallets[0])], [(address(node.wallets[1]), COIN)])
        large = msgspec.structs.replace(small, inputs=small.inputs * limits.INPUTS)
        for tx, heavy in ((small, 1), (large, 112)):
            self.assertEqual(weight(Submit(tx, None)), heavy)
            self.assertEqual(weight(Heard(messages.TransactionBroadcast(tx=tx), "")), heavy)
            page = messages.Transactions(transactions=(tx, small))
            self.assertEqual(weight(Heard(page, "")), 2 + heavy)


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.inbox = Inbox()
        self.liar, self.honest, self.other = (voter.public_hex for voter in VOTERS[:3])
        votes = _txids(limits.BATCH_VOTES)
        self.large = examples.batch(VOTERS[0], lock=votes, commit=votes, abort=votes)

    def hear(self, message: Any, sender: str) -> Heard:
        heard = Heard(message, sender)
        self.inbox.append(heard, NONE_KNOWN)
        return heard

    def flood(self) -> int:
        """As much of the liar's largest messages as may wait; returns how many."""
        many = 0
        while self.inbox.has_room_for(self.liar):
            self.hear(self.large, self.liar)
            many += 1
        return many

    def take(self) -> list[Input]:
        return [entry for entry, _ in self.inbox.take()]

    def test_a_flood_does_not_stand_before_what_others_say(self) -> None:
        """A quarter of the inbox, come first, keeps nobody's votes, payments or timers for more than a step."""
        many = self.flood()
        self.assertGreater(many, 50)
        waiting: list[Input] = [self.hear(_word(height), self.honest) for height in range(5)]
        waiting += [Submit(PAYMENT, None), Wake(1, 0, Timer.PREVOTE), self.hear(_word(9), self.other)]
        for entry in waiting[5:7]:
            self.inbox.append(entry, NONE_KNOWN)
        taken = self.take()
        self.assertEqual([entry for entry in waiting if entry not in taken], [])
        self.assertLess(sum(map(weight, taken[:-1])), limits.STEP_INPUTS)

    def test_turns_are_fair_by_weight_and_not_by_number(self) -> None:
        """Whoever sends large messages has fewer of them taken: its debt is paid before its next turn."""
        self.flood()
        had = self.share_of_each(lambda: None)
        self.assertLess(abs(had[self.liar] - had[self.honest]), weight(Heard(self.large, "")) + TURN)

    def test_a_debt_outlives_an_empty_queue_while_others_wait(self) -> None:
        """One large message at a time, the next sent when the last is taken, has no larger part than a heap of them."""
        had = self.share_of_each(lambda: self.inbox._of(self.liar) or self.hear(self.large, self.liar))
        self.assertLess(abs(had[self.liar] - had[self.honest]), weight(Heard(self.large, "")) + TURN)

    def share_of_each(self, before_each: Callable[[], object]) -> dict[str, int]:
        """The weight that is taken of the two in eight steps, while one who is honest has a heap of words waiting."""
        for height in range(4_000):
            self.hear(_word(height), self.honest)
        had = {self.liar: 0, self.honest: 0}
        for _ in range(8):
            before_each()
            for entry in self.take():
                assert isinstance(entry, Heard)
                had[entry.sender] += weight(entry)
        return had

    def test_a_debt_is_forgiven_when_nothing_waits(self) -> None:
        """Who sent a large page while there was time for it owes nobody anything."""
        self.hear(self.large, self.honest)
        self.take()
        word = self.hear(_word(1), self.honest)
        self.flood()
        self.assertEqual(self.take()[0], word)

    def test_links_keep_their_place_among_the_words_of_their_masternode(self) -> None:
        """What came before a link went down is heard before it, and what comes over the next one after it."""
        links: list[Input] = [LinkUp(self.honest), LinkDown(self.honest)]
        expected: list[Input] = []
        for number, link in enumerate(links * 3):
            self.inbox.append(link, NONE_KNOWN)
            expected += [link, self.hear(_word(number), self.honest)]
            self.inbox.append(Submit(PAYMENT, number), NONE_KNOWN)
        self.assertEqual([entry for entry in self.take() if not isinstance(entry, Submit)], expected)

    @given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from((1, 31, 900, 4_000)), st.booleans()), max_size=80))
    def test_nothing_is_lost_doubled_or_overtaken(self, said: list[tuple[int, int, bool]]) -> None:
        """However senders and sizes are mixed: each one's order is kept, and a take is a step's worth at most."""
        self.inbox = Inbox()
        sent: dict[str, list[Any]] = {}
        taken: dict[str, list[Any]] = {}

        def take() -> None:
            entries = self.take()
            self.assertTrue(entries)
            self.assertLess(sum(map(weight, entries[:-1])), limits.STEP_INPUTS)
            for entry in entries:
                assert isinstance(entry, Heard)
                taken.setdefault(entry.sender, []).append(entry)

        for number, (sender, votes, is_taken) in enumerate(said):
            batch = replace(self.large, height=number, lock=self.large.lock[:votes], commit=(), abort=())
            sent.setdefault(str(sender), []).append(self.hear(batch, str(sender)))
            if is_taken:
                take()
        while self.inbox:
            take()
        self.assertEqual(taken, sent)
        self.assertEqual((self.inbox._weight, self.inbox._checks, self.take()), (0, 0, []))


class WeightTests(SynchronousTestCase):
    def test_no_message_holds_more_than_it_weighs(self) -> None:
        """A liar chooses what it sends: of every kind, made as large as may be in each way, a unit is bounded."""
        for name, message in _heavy():
            payload = codec.encode(message)
            codec.decode(payload)
            tracemalloc.start()
            held = Heard(codec.decode(payload), SET)
            size = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            self.assertLess(size, UNIT * weight(held), name)
            self.assertLessEqual(checks(held), SIGNATURES * weight(held), name)

    def test_all_questions_weigh_the_same(self) -> None:
        """Each is a look at the ledger and a long answer, whatever it asks for."""
        questions = (messages.GetFinalized(since=0), messages.GetBlocks(since=0), messages.GetVotes(txids=(SET,)),
                     messages.GetTransactions(txids=(SET,)))
        self.assertEqual([weight(Heard(question, SET)) for question in questions], [8] * 4)

    def test_what_honest_masternodes_say_most_weighs_little(self) -> None:
        """A payment, a turn's votes, a page of payments and a word about a block are what steps are made of."""
        votes = examples.batch(VOTERS[0], lock=_txids(20), commit=_txids(20))
        for message, heavy in (
            (messages.TransactionBroadcast(tx=PAYMENT), 1),
            (messages.Transactions(transactions=(PAYMENT,) * 10), 11),
            (votes, 2),
            (messages.Votes(batches=(votes,) * 3), 7),
            (_word(1), 1),
            (messages.FinalityProofs(proofs=(examples.proof_of(PAYMENT.txid),)), 5),
            (messages.BlockProposal(vote=_word(1), block=DECIDED.block), 8),
            (messages.Blocks(blocks=(DECIDED,) * 3, head=3), 25),
        ):
            self.assertEqual(weight(Heard(message, SET)), heavy, type(message).__name__)


def _heavy() -> Iterator[tuple[str, Any]]:
    """Messages that take much memory, or many signature checks, for their kind."""
    vote = replace(examples.proof_of(PAYMENT.txid).votes[0], path=(SET,) * limits.PROOF_PATH)
    votes = tuple(replace(vote, voter=f"{number:064x}") for number in range(limits.MASTERNODES))
    words = tuple(map(_word, range(limits.WORDS_PAGE)))
    cancels = tuple(
        messages.TransactionCancel(txid=txid, key=SET, signature="0" * 128) for txid in _txids(limits.FETCH)
    )
    batches = tuple(replace(examples.batch(VOTERS[0], lock=_txids(1)), height=number) for number in range(1_000))
    owners = tuple(replace(PAYMENT.outputs[0], amount=COIN, address="\U0001f600" * 48) for _ in range(1_000))
    many = replace(PAYMENT, inputs=PAYMENT.inputs * 1_000, signature=PAYMENT.signature * 1_000)
    wide = replace(PAYMENT, outputs=owners)
    yield "cancels and words", messages.Votes(cancels=cancels, block_votes=words)
    yield "cancels", messages.Votes(cancels=cancels)
    yield "words", messages.Votes(block_votes=words)
    yield "small batches", messages.Votes(batches=batches)
    yield "a few words", messages.Votes(block_votes=words[:3], cancels=cancels[:4])
    yield "inputs and signatures", messages.TransactionBroadcast(tx=many)
    yield "outputs", messages.TransactionBroadcast(tx=wide)
    yield "finals", messages.Finalized(txids=_txids(limits.CATCH_UP_PAGE), next=1, head=1)
    yield "a question about transactions", messages.GetTransactions(txids=_txids(limits.FETCH))
    yield "a question about votes", messages.GetVotes(txids=_txids(limits.FETCH))
    for size in (1, 9, limits.MASTERNODES):
        for signed in (votes[:size], tuple(replace(each, path=()) for each in votes[:size])):
            proofs = tuple(FinalityProof(txid, SET, signed) for txid in _txids(8))
            name = f"certificates of {size} with paths of {len(signed[0].path)}"
            yield f"proofs: {name}", messages.FinalityProofs(proofs=proofs)
            yield f"answer: {name}", messages.Votes(proofs=proofs)
            yield f"page: {name}", messages.Transactions(proofs=proofs)
            verdicts = tuple(Verdict("abort", txid, signed) for txid in _txids(8))
            block = replace(DECIDED.block, verdicts=verdicts)
            yield f"proposal: {name}", messages.BlockProposal(vote=words[0], block=block)
            yield f"block: {name}", messages.Blocks(blocks=(replace(DECIDED, block=block),), head=1)
            yield f"hint: {name}", _hint(proof=proofs[0])
    commit = replace(DECIDED.commit, signatures=DECIDED.commit.signatures[:1] * limits.MASTERNODES)
    blocks = tuple(replace(DECIDED, commit=commit) for _ in range(limits.BLOCKS_PAGE))
    yield "commits", messages.Blocks(blocks=blocks, head=1)
    yield "a hint with a commit", _hint(inclusion=replace(inclusion_proof(DECIDED, 0), commit=commit))
    for coinbase in (many, wide):
        block = replace(DECIDED.block, coinbase=coinbase, transactions=_txids(limits.BLOCK_TRANSACTIONS))
        yield "a proposal with a large coinbase", messages.BlockProposal(vote=words[0], block=block)
        yield "a block with a large coinbase", messages.Blocks(blocks=(replace(DECIDED, block=block),), head=1)
    yield "a polka", messages.BlockProposal(vote=words[0], block=DECIDED.block, polka=words)


def _txids(most: int) -> tuple[str, ...]:
    return tuple(f"{number:064x}" for number in range(most))


def _word(height: int) -> BlockVote:
    return BlockVote(BlockVoteKind.PREVOTE, SET, SET, height, 0, SET, None, "0" * 128)


def _hint(**more: Any) -> messages.UTXOStateNotification:
    return messages.UTXOStateNotification(
        notification=messages.StateChange(PAYMENT.outpoints[0], None, to_wire(SpentFinalized(SET, 1, 5)), 1, SET),
        cursor=messages.Cursor(SET, 1),
        output=PAYMENT.outputs[0],
        **more,
    )


def _coins(node: AloneNode) -> list[tuple[Outpoint, int]]:
    owner = address(node.wallets[0])
    return [(outpoint, output.amount) for outpoint, output in node.genesis.coins() if output.address == owner]
