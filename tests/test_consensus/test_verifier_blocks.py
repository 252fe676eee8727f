"""The verify stage for what is said about blocks: each fault is refused and counted, nothing honest is."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import STRANGER, replace
from tests.test_consensus.blocks import PRECOMMIT, PREVOTE, PROPOSAL, Chained
from timeproto import limits
from timeproto.consensus.answers import verdict_size
from timeproto.consensus.effects import Cancel, Heard
from timeproto.consensus.verifier import Verifier
from timeproto.model import block as blocks
from timeproto.model.block import Block, Commit, DecidedBlock, Precommit, sign_block_vote
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteKind
from timeproto.wire import messages


class Stage(SynchronousTestCase):
    def setUp(self) -> None:
        self.alone = Chained(4)
        self.verifier = Verifier(self.alone.genesis)
        self.tx = self.alone.pay(self.alone.coins()[:1])

    def hear(self, message: Any, peer: int = 1) -> tuple[Any, list[str]]:
        """What is left of a message, None if nothing, and the codes its sender is blamed with."""
        verified = self.verifier.check([(Heard(message, self.alone.keys[peer].public_hex), {})])
        left = [entry.message for entry in verified.inputs if isinstance(entry, Heard)]
        return (left[0] if left else None), [str(refusal.code) for _, refusal in verified.blame]

    def assert_passes(self, message: Any) -> None:
        self.assertEqual(self.hear(message), (message, []))

    def assert_refused(self, message: Any, code: str, name: str = "") -> None:
        self.assertEqual(self.hear(message), (None, [code]), name)

    def block(self, verdicts: bool = False) -> Block:
        alone = self.alone
        made = [alone.verdict(self.tx, "commit")] if verdicts else []
        return alone.block([self.tx], made, round_=1)


class Words(Stage):
    def test_what_is_not_signed_by_a_member_for_this_set(self) -> None:
        """A changed place, block or voter, a stranger, another set, another network: refused (B-06 to B-08)."""
        alone = self.alone
        good = alone.word(PREVOTE, 1, 2, "ab" * 32)
        self.assert_passes(good)
        self.assert_passes(alone.word(PRECOMMIT, 1, 2, None))
        wrong = [
            replace(good, height=2), replace(good, round=3), replace(good, block=None), replace(good, kind=PRECOMMIT),
            replace(good, block="cd" * 32), replace(good, voter=alone.keys[2].public_hex),
            replace(good, signature="0" * 128),
            sign_block_vote(STRANGER, alone.genesis.hash, replace(good, voter=STRANGER.public_hex)),
            sign_block_vote(alone.keys[1], alone.genesis.hash, replace(good, set="00" * 32)),
            sign_block_vote(alone.keys[1], "00" * 32, good),
        ]
        for word in wrong:
            self.assert_refused(word, "bad_vote")
            left, blame = self.hear(messages.Votes(block_votes=(word, good)))
            self.assertEqual((left.block_votes, blame), ((good,), ["bad_vote"]))

    def test_a_proposal_comes_with_its_block(self) -> None:
        """The bare word is left out; in an answer about a voter it is one of its words."""
        word = self.alone.word(PROPOSAL, 1, 0, "ab" * 32)
        self.assertEqual(self.hear(word), (None, []))
        self.assert_passes(messages.Votes(voter=self.alone.keys[1].public_hex, block_votes=(word,)))

    def test_a_second_copy_costs_nothing(self) -> None:
        """Twenty copies, one check; the memory of them is bounded; a known signature over another word is no copy."""
        checked = []
        real = blocks.verify
        self.patch(blocks, "verify", lambda *given: (checked.append(1), real(*given))[1])
        good = self.alone.word(PREVOTE, 1, 0, None)
        for _ in range(20):
            self.assert_passes(good)
        self.assertEqual(len(checked), 1)
        self.assert_refused(replace(good, block="ab" * 32), "bad_vote")
        self.patch(limits, "VERIFIED_WORDS", 10)
        for round_ in range(30):
            self.assert_passes(self.alone.word(PREVOTE, 1, round_, None))
            self.assertLessEqual(len(self.verifier._words), 10 + 1)


class Proposals(Stage):
    def test_an_honest_one_passes(self) -> None:
        """New, with verdicts, proposed again with its polka, and whoever hands it on."""
        for verdicts in (False, True):
            block = self.block(verdicts)
            for message in (self.alone.proposal(block, 1), self.alone.proposal(block, 3, 1),
                            self.alone.proposal(self.alone.block())):
                for peer in (1, 2, 3):
                    self.assertEqual(self.hear(message, peer), (message, []))

    def test_another_body_under_an_honest_hash(self) -> None:
        """Coinbase, transactions or verdicts changed: never judged in place of the honest body."""
        for message in (self.alone.proposal(self.block(True), 1), self.alone.proposal(self.block(True), 3, 1)):
            for name, body in bodies(message.block).items():
                self.assertEqual(self.alone.hash(body), message.vote.block)
                self.assert_refused(replace(message, block=body), "bad_proof", name)
            self.assert_passes(message)

    def test_a_word_for_something_else(self) -> None:
        """Another block, another height, a vote in place of a proposal; forged."""
        alone, block = self.alone, self.block()
        good = alone.proposal(block, 1)
        other = alone.block()
        self.assert_refused(replace(good, block=other), "bad_proof")
        self.assert_refused(replace(good, vote=alone.word(PROPOSAL, 1, 1, block, height=2)), "bad_proof")
        self.assert_refused(replace(good, vote=alone.word(PREVOTE, 1, 1, block)), "bad_proof")
        self.assert_refused(replace(good, vote=replace(good.vote, signature="0" * 128)), "bad_vote")

    def test_a_polka_that_is_none(self) -> None:
        """Too few, a voter twice, another round, block or kind, a forged one, one for a new block, a stranger's."""
        alone, block = self.alone, self.block()
        good = alone.proposal(block, 3, 1)
        one, two, three = good.polka
        wrong = {
            "none": (),
            "too few": (one, two),
            "twice": (one, two, two),
            "one too many twice": (one, two, three, three),
            "another round": (one, two, alone.word(PREVOTE, 3, 2, block)),
            "another block": (one, two, alone.word(PREVOTE, 3, 1, "ab" * 32)),
            "another kind": (one, two, alone.word(PRECOMMIT, 3, 1, block)),
            "beside a good one": (one, two, three, alone.word(PREVOTE, 0, 0, block)),
        }
        for name, polka in wrong.items():
            self.assert_refused(replace(good, polka=polka), "bad_proof", name)
        self.assert_refused(replace(good, polka=(one, two, replace(three, signature="0" * 128))), "bad_vote")
        stranger = sign_block_vote(STRANGER, alone.genesis.hash, replace(three, voter=STRANGER.public_hex))
        self.assert_refused(replace(good, polka=(one, two, stranger)), "bad_vote")
        self.assert_refused(replace(alone.proposal(block, 1), polka=good.polka), "bad_proof", "not asked for")

    def test_verdicts_without_their_certificates(self) -> None:
        """Too few votes, another transaction's, of another kind, a voter twice, more than needed (B-10)."""
        alone = self.alone
        other = alone.pay(alone.coins()[1:2])
        good = alone.verdict(self.tx, "commit")
        wrong = {
            "too few": replace(good, votes=good.votes[:2]),
            "twice": replace(good, votes=(*good.votes[:2], good.votes[0])),
            "another's": replace(good, votes=alone.certificate(other, VoteKind.LOCK)),
            "abort votes": replace(good, votes=alone.certificate(self.tx, VoteKind.ABORT)),
            "commit votes": replace(good, votes=alone.certificate(self.tx, VoteKind.COMMIT)),
            "more than needed": replace(good, votes=alone.certificate(self.tx, VoteKind.LOCK, range(4))),
        }
        for name, verdict in wrong.items():
            block = alone.block([self.tx], [verdict])
            self.assert_refused(alone.proposal(block), "bad_proof", name)
            decided = messages.Blocks(blocks=(alone.decided(block),), head=1)
            self.assertEqual(self.hear(decided), (replace(decided, blocks=()), ["bad_proof"]), name)

    def test_certificates_are_no_larger_than_the_honest_make_them(self) -> None:
        """They stand beside the hash, where a liar could pad them until the decided block fits no frame."""
        block = self.block(True)
        room = verdict_size(block.verdicts[0])
        self.patch(limits, "BLOCK_BYTES", 68 * limits.BLOCK_TRANSACTIONS + room)
        self.assert_passes(self.alone.proposal(block, 1))
        self.patch(limits, "BLOCK_BYTES", 68 * limits.BLOCK_TRANSACTIONS + room - 1)
        self.assert_refused(self.alone.proposal(block, 1), "bad_proof")
        decided = messages.Blocks(blocks=(self.alone.decided(block),), head=1)
        self.assertEqual(self.hear(decided)[1], ["bad_proof"])


def bodies(block: Block) -> dict[str, Block]:
    """Other bodies under the same hash, each wrong in one place."""
    coinbase = block.coinbase
    (output,) = coinbase.outputs

    def paying(**changes: Any) -> Block:
        return replace(block, coinbase=replace(coinbase, outputs=(replace(output, **changes),)))

    return {
        "more money": paying(amount=output.amount + 1),
        "another payee": paying(address=output.address[:-1]),
        "no money": replace(block, coinbase=replace(coinbase, outputs=())),
        "a signature": replace(block, coinbase=replace(coinbase, signature=(0,) * 64)),
        "another coinbase": replace(block, coinbase=named(replace(coinbase, timestamp=1))),
        "no transaction": replace(block, transactions=()),
        "one more": replace(block, transactions=(*block.transactions, "ab" * 32)),
        "another verdict": replace(block, verdicts=tuple(replace(each, kind="abort") for each in block.verdicts)),
        "no verdict": replace(block, verdicts=()),
    }


def named(tx: Transaction) -> Transaction:
    return replace(tx, txid=tx.computed_txid)


class DecidedBlocks(Stage):
    def test_an_honest_page_passes(self) -> None:
        """Any q precommits, of any one round."""
        alone, block = self.alone, self.block(True)
        for voters, round_ in (((0, 1, 2), 1), ((3, 1, 0), 5), ((0, 1, 2, 3), 1)):
            self.assert_passes(messages.Blocks(blocks=(alone.decided(block, voters, round_),), head=1))

    def test_each_fault_is_taken_out_of_a_page(self) -> None:
        """A commit too small, of strangers, for another block; another body: the rest of the page stays."""
        alone, block = self.alone, self.block(True)
        good = alone.decided(block)
        commit, (one, two, three) = good.commit, good.commit.signatures
        other = alone.block()

        def decided(**changes: Any) -> DecidedBlock:
            return replace(good, commit=replace(commit, **changes))

        stranger = sign_block_vote(
            STRANGER, alone.genesis.hash, replace(alone.word(PRECOMMIT, 1, 1, block), voter=STRANGER.public_hex)
        )
        wrong = {
            "too few": decided(signatures=(one, two)),
            "twice": decided(signatures=(one, two, two)),
            "a stranger": decided(signatures=(one, two, Precommit(stranger.voter, stranger.signature))),
            "forged": decided(signatures=(one, two, replace(three, signature="0" * 128))),
            "a prevote": decided(signatures=(one, two, replace(
                three, signature=alone.word(PREVOTE, 3, 1, block).signature))),
            "two rounds": decided(signatures=(one, two, replace(
                three, signature=alone.word(PRECOMMIT, 3, 2, block).signature))),
            "another round": decided(round=2),
            "another block": decided(block=alone.hash(other)),
            "another's block": replace(good, block=other),
            "another height": decided(height=2),
            "another set": decided(set="00" * 32),
            "for nothing": DecidedBlock(block, self.commit_of_nothing(block)),
        }
        wrong |= {name: replace(good, block=body) for name, body in bodies(block).items()}
        for name, each in wrong.items():
            left, blame = self.hear(messages.Blocks(blocks=(each, good), head=1))
            self.assertEqual((left.blocks, blame), ((good,), ["bad_proof"]), name)

    def commit_of_nothing(self, block: Block) -> Commit:
        """The words for no block at all are no words for a block whose hash is zeroes."""
        alone = self.alone
        words = [alone.word(PRECOMMIT, voter, 1, None) for voter in (1, 2, 3)]
        signatures = tuple(Precommit(word.voter, word.signature) for word in words)
        return Commit(1, 1, alone.hash(block), alone.set.hash, signatures)


class Cancels(Stage):
    def cancel(self, owner: SigningKey, **changes: Any) -> messages.TransactionCancel:
        unsigned = messages.TransactionCancel(txid=self.tx.txid, key=owner.public_hex, signature="0" * 128)
        signature = owner.sign(unsigned.message(self.alone.genesis.hash)).hex()
        return replace(replace(unsigned, signature=signature), **changes)

    def test_by_its_key_or_not_at_all(self) -> None:
        """From a wallet: told so. From a masternode: counted, out of an answer too. Whose key it is, others ask."""
        owner, other = self.alone.wallets
        good = self.cancel(owner)
        changes: list[dict[str, Any]] = [{"txid": "ab" * 32}, {"key": other.public_hex}, {"signature": "0" * 128}]
        forged = [replace(good, **each) for each in changes]
        self.assert_passes(good)
        self.assert_passes(self.cancel(other))
        for bad in forged:
            self.assert_refused(bad, "bad_signature")
            left, blame = self.hear(messages.Votes(cancels=(bad, good)))
            self.assertEqual((left.cancels, blame), ((good,), ["bad_signature"]))
        verified = self.verifier.check([(Cancel(each, at), {}) for at, each in enumerate([good, *forged])])
        self.assertEqual(verified.inputs, [Cancel(good, 0)])
        self.assertEqual([(ticket, refusal.code) for ticket, refusal in verified.refused],
                         [(at, "bad_signature") for at in (1, 2, 3)])
        self.assertEqual(verified.blame, [])
