"""Blocks: what a hash covers, what proves one decided, what proves an entry of one, what a coinbase may mint (§6)."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import (
    GENESIS,
    MASTERNODES,
    STRANGER,
    VOTERS,
    address,
    batch,
    decided_block,
    key,
    replace,
)
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model import keys
from timeproto.model.block import (
    Block,
    BlockHeader,
    BlockVote,
    BlockVoteKind,
    Commit,
    DecidedBlock,
    Precommit,
    Verdict,
    check_commit,
    check_inclusion,
    coin_member,
    inclusion_proof,
    leaves,
    make_coinbase,
    sign_block_vote,
    transaction_leaf,
    verdict_leaf,
)
from timeproto.model.certificate import signed_vote
from timeproto.model.keys import Remembered, verify
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.merkle import MerkleTree
from timeproto.model.transaction import NULL_OUTPOINT, Outpoint, TxOutput
from timeproto.model.vote import VoteKind
from timeproto.params import COIN, NETWORKS
from timeproto.wire import codec

HASH, OTHER = "ab" * 32, "cd" * 32
PROPOSAL, PREVOTE, PRECOMMIT = BlockVoteKind
FIELDS = ("height", "parent", "timestamp", "proposer", "round", "root", "set", "commitment")
HEADERS = st.builds(
    BlockHeader,
    *(
        {"height": st.integers(0, 2**64 - 1), "timestamp": st.integers(-(2**63), 2**63 - 1),
         "round": st.integers(0, 2**32 - 1)}.get(name, st.binary(min_size=32, max_size=32).map(bytes.hex))
        for name in FIELDS
    ),
)


def word(kind: BlockVoteKind = PRECOMMIT, voter: Any = VOTERS[0], **fields: Any) -> BlockVote:
    given = {"set": MASTERNODES.hash, "height": 1, "round": 0, "block": HASH, "valid_round": None, **fields}
    return sign_block_vote(voter, GENESIS.hash, BlockVote(kind, voter.public_hex, signature="0" * 128, **given))


def verdict(txid: str, kind: str = "abort", voters: Any = VOTERS[:5], signed_as: str | None = None) -> Verdict:
    vote = {"commit": VoteKind.LOCK, "abort": VoteKind.ABORT}[kind] if signed_as is None else VoteKind[signed_as]
    votes = []
    for voter in voters:
        signed = batch(voter, **{vote.name.lower(): [txid]})
        votes.append(signed_vote(signed, signed.index(vote, txid)))
    return Verdict(kind, txid, tuple(votes))  # type: ignore[arg-type]


def code_of(case: SynchronousTestCase, call: Any, *arguments: Any) -> ErrorCode:
    error: Refusal = case.assertRaises(Refusal, call, *arguments)
    return error.code


class Headers(SynchronousTestCase):
    @given(HEADERS, HEADERS)
    def test_the_hash_covers_every_field(self, one: BlockHeader, other: BlockHeader) -> None:
        """Each field taken from another header makes another hash, unless it is the same."""
        for name in FIELDS:
            changed = replace(one, **{name: getattr(other, name)})
            same = getattr(one, name) == getattr(other, name)
            self.assertEqual(changed.hash(GENESIS.hash) == one.hash(GENESIS.hash), same, name)

    @given(HEADERS)
    def test_fields_are_told_apart(self, header: BlockHeader) -> None:
        """The bytes are as long for every header, and the network is in the hash."""
        self.assertEqual(len(header.canonical), 8 + 32 + 8 + 32 + 4 + 3 * 32)
        self.assertNotEqual(header.hash(GENESIS.hash), header.hash(OTHER))

    def test_every_field_is_named_here(self) -> None:
        """A field that somebody adds must be in the hash too."""
        self.assertEqual(BlockHeader.__struct_fields__, FIELDS)

    def test_a_height_is_no_more_than_eight_bytes(self) -> None:
        """What cannot be hashed is no header."""
        header = decided_block().block.header
        raw = msgspec.json.encode(header)
        self.assertEqual(msgspec.json.decode(raw, type=BlockHeader), header)
        for height in (b"-1", b"%d" % 2**64):
            wrong = raw.replace(b'"height":1,', b'"height":%s,' % height)
            self.assertRaises(msgspec.ValidationError, msgspec.json.decode, wrong, type=BlockHeader)
        self.assertRaises(ValueError, BlockHeader, 2**64, *(getattr(header, name) for name in FIELDS[1:]))


class Contents(SynchronousTestCase):
    def test_the_root_covers_every_entry_and_its_place(self) -> None:
        """Another coinbase, transaction, order, verdict or kind of verdict is another root; a certificate is not."""
        coinbase, txids = make_coinbase(1, COIN + 5, VOTERS[0].public_hex, GENESIS.params), ("0a" * 32, "0b" * 32)
        bare = (Verdict("abort", OTHER, verdict(OTHER).votes),)
        contents = [
            (coinbase, txids, bare),
            (make_coinbase(1, COIN + 6, VOTERS[0].public_hex, GENESIS.params), txids, bare),
            (coinbase, txids[::-1], bare),
            (coinbase, txids[:1], bare),
            (coinbase, (*txids, OTHER), ()),
            (coinbase, txids, ()),
            (coinbase, txids, (Verdict("commit", OTHER, bare[0].votes),)),
            (coinbase, txids, (Verdict("abort", HASH, bare[0].votes),)),
        ]
        roots = [MerkleTree(leaves(*each)).root for each in contents]
        self.assertEqual(len(set(roots)), len(contents))
        others = (Verdict("abort", OTHER, verdict(OTHER, voters=VOTERS[2:]).votes),)
        self.assertEqual(MerkleTree(leaves(coinbase, txids, others)).root, roots[0])

    def test_the_leaves(self) -> None:
        """A kind byte and the txid: 1 a transaction, 2 a commit, 3 an abort."""
        kinds = transaction_leaf(HASH)[0], verdict_leaf("commit", HASH)[0], verdict_leaf("abort", HASH)[0]
        self.assertEqual(kinds, (1, 2, 3))
        self.assertEqual({leaf[1:].hex() for leaf in (transaction_leaf(HASH), verdict_leaf("abort", HASH))}, {HASH})

    def test_a_body_is_whole_or_it_is_not_the_blocks(self) -> None:
        """A coinbase under another's txid, one with a signature, an entry more or less: not what the header names."""
        block = decided_block(transactions=[HASH]).block
        self.assertTrue(block.is_whole)
        fat = (TxOutput(5, address(key(9))),)
        for fault in (
            replace(block, coinbase=replace(block.coinbase, outputs=fat)),
            replace(block, coinbase=replace(block.coinbase, signature=(1,))),
            replace(block, coinbase=make_coinbase(2, COIN, block.header.proposer, GENESIS.params)),
            replace(block, transactions=()),
            replace(block, transactions=(HASH, OTHER)),
            replace(block, verdicts=(verdict(OTHER),)),
            replace(block, header=replace(block.header, root=OTHER)),
        ):
            self.assertFalse(fault.is_whole)

    def test_where_things_stand(self) -> None:
        """The leaf of each entry; what is not in the block has none."""
        block = self.block()
        self.assertEqual(block.index(block.coinbase.txid), 0)
        self.assertEqual([block.index(txid) for txid in block.transactions], [1, 2])
        self.assertEqual([block.verdict_index(each.txid) for each in block.verdicts], [3, 4])
        self.assertEqual((list(block.committed), list(block.aborted)), (["0b" * 32], [OTHER]))
        self.assertRaises(ValueError, block.index, OTHER)
        self.assertRaises(ValueError, block.verdict_index, "0a" * 32)

    def block(self) -> Block:
        block = decided_block(transactions=["0a" * 32, "0b" * 32]).block
        return replace(block, verdicts=(verdict("0b" * 32, "commit"), verdict(OTHER)))


class Verdicts(SynchronousTestCase):
    def test_a_verdict_needs_its_certificate(self) -> None:
        """q votes of the right kind, for this transaction, of members: no fewer, no more, nobody twice."""
        for kind in ("commit", "abort"):
            verdict(OTHER, kind).check(MASTERNODES, GENESIS.hash)
            verdict(OTHER, kind, VOTERS[2:]).check(MASTERNODES, GENESIS.hash)
            good = verdict(OTHER, kind)
            for fault in (
                verdict(OTHER, kind, VOTERS[:4]),
                verdict(OTHER, kind, VOTERS[:6]),
                verdict(OTHER, kind, [*VOTERS[:4], STRANGER]),
                verdict(OTHER, kind, [*VOTERS[:4], VOTERS[0]]),
                verdict(OTHER, kind, signed_as="COMMIT"),
                verdict(OTHER, kind, signed_as="ABORT" if kind == "commit" else "LOCK"),
                Verdict(kind, HASH, good.votes),  # type: ignore[arg-type]
            ):
                self.assertEqual(code_of(self, fault.check, MASTERNODES, GENESIS.hash), ErrorCode.BAD_PROOF)
            self.assertEqual(code_of(self, good.check, MASTERNODES, HASH), ErrorCode.BAD_PROOF)


class Words(SynchronousTestCase):
    def test_a_word_is_for_one_place_and_one_block(self) -> None:
        """Signed for one kind, height, round, block, valid round, set and network: it is worth nothing for another."""
        said = word(PROPOSAL, round=3, valid_round=1)
        self.assertTrue(said.verify(GENESIS.hash))
        self.assertFalse(said.verify(OTHER))
        for change in (
            {"height": 2}, {"round": 4}, {"block": OTHER}, {"set": OTHER}, {"valid_round": 0}, {"valid_round": None},
            {"valid_round": 2}, {"voter": VOTERS[1].public_hex}, {"voter": STRANGER.public_hex},
        ):
            self.assertFalse(replace(said, **change).verify(GENESIS.hash), change)
        kinds = [word(kind) for kind in BlockVoteKind]
        for one in kinds:
            for other in kinds:
                self.assertEqual(replace(one, kind=other.kind).verify(GENESIS.hash), one is other)

    def test_nothing_is_not_a_block(self) -> None:
        """A word for nothing is none for a block, and the other way round."""
        nothing = word(PREVOTE, block=None)
        self.assertTrue(nothing.verify(GENESIS.hash))
        self.assertFalse(replace(nothing, block=HASH).verify(GENESIS.hash))
        self.assertFalse(replace(word(PREVOTE), block=None).verify(GENESIS.hash))

    def test_words_that_make_no_sense(self) -> None:
        """Refused before anybody checks a signature, when made and when read."""
        for kind, fields in (
            (PROPOSAL, {"block": None}),
            (PREVOTE, {"round": 2, "valid_round": 1}),
            (PRECOMMIT, {"round": 2, "valid_round": 1}),
            (PROPOSAL, {"round": 1, "valid_round": 1}),
            (PROPOSAL, {"round": 1, "valid_round": 2}),
            (PREVOTE, {"height": 2**64}),
        ):
            self.assertRaises(ValueError, word, kind, **fields)
        raw = codec.encode(word(PREVOTE)).replace(b'"valid_round":null', b'"valid_round":0')
        self.assertRaises(Refusal, codec.decode, raw)

    def test_a_place(self) -> None:
        """Height, round and kind, not the block: two words for one place are evidence."""
        self.assertEqual(word(PREVOTE).place, word(PREVOTE, block=None).place)
        places = {word(kind, height=height, round=round_).place
                  for kind in BlockVoteKind for height in (1, 2) for round_ in (0, 1)}
        self.assertEqual(len(places), 12)


class Commits(SynchronousTestCase):
    def setUp(self) -> None:
        self.decided = decided_block()

    def why(self, header: BlockHeader, commit: Commit, masternodes: MasternodeSet = MASTERNODES) -> str:
        error = self.assertRaises(Refusal, check_commit, header, commit, masternodes, GENESIS.hash)
        self.assertEqual(error.code, ErrorCode.BAD_PROOF)
        return error.message

    def test_any_quorum_decides(self) -> None:
        """Five, six or seven of seven, whoever they are."""
        for voters in (VOTERS[:5], VOTERS[2:], VOTERS[:6], VOTERS):
            decided = decided_block(voters=voters)
            check_commit(decided.block.header, decided.commit, MASTERNODES, GENESIS.hash)

    def test_each_fault_alone_decides_nothing(self) -> None:
        """The right commit with one thing wrong is no commit."""
        header, commit = self.decided.block.header, self.decided.commit
        signed = commit.signatures
        swapped = (Precommit(signed[0].voter, signed[1].signature), Precommit(signed[1].voter, signed[0].signature))
        stranger = Precommit(STRANGER.public_hex, word(voter=STRANGER, block=commit.block).signature)
        prevote = Precommit(signed[0].voter, word(PREVOTE, block=commit.block).signature)
        faults = {
            "another masternode set": (header, replace(commit, set=OTHER)),
            "names another masternode set": (replace(header, set=OTHER), commit),
            "for another block": (header, replace(commit, block=OTHER)),
            "commit is for another block": (header, replace(commit, height=2)),
            "is for another": (replace(header, timestamp=header.timestamp + 1), commit),
            "not signed by it": (header, replace(commit, round=1)),
            "4 votes of the 5 needed": (header, replace(commit, signatures=signed[:4])),
            "counted twice": (header, replace(commit, signatures=(*signed[:4], signed[0]))),
            "or is not a masternode": (header, replace(commit, signatures=(*signed[:4], stranger))),
            "is not signed by it": (header, replace(commit, signatures=(*swapped, *signed[2:]))),
            "the vote of": (header, replace(commit, signatures=(prevote, *signed[1:]))),
        }
        for expected, (given_header, given_commit) in faults.items():
            self.assertIn(expected, self.why(given_header, given_commit))

    def test_a_worthless_one_costs_no_signature_check(self) -> None:
        """Names and numbers are compared first; a vote that is known already is not checked again."""
        header, commit = self.decided.block.header, self.decided.commit
        asked: list[str] = []
        self.patch(keys, "verify", lambda key, message, signature: asked.append(key.hex()) or True)
        known = Remembered(10)
        short = replace(commit, signatures=commit.signatures[:4])
        self.assertRaises(Refusal, check_commit, header, short, MASTERNODES, GENESIS.hash, known)
        self.assertEqual(asked, [])
        for _ in range(2):
            check_commit(header, commit, MASTERNODES, GENESIS.hash, known)
            self.assertEqual(asked, [each.voter for each in commit.signatures])
        forged = replace(commit, signatures=tuple(Precommit(each.voter, "0" * 128) for each in commit.signatures))
        self.patch(keys, "verify", verify)
        self.assertRaises(Refusal, check_commit, header, forged, MASTERNODES, GENESIS.hash, known)

    def test_another_network_or_set(self) -> None:
        """A commit holds where it was made: for these masternodes, under this genesis."""
        header, commit = self.decided.block.header, self.decided.commit
        fewer = MasternodeSet(voter.public_hex for voter in VOTERS[:6])
        self.assertIn("another masternode set", self.why(header, commit, fewer))
        self.assertEqual(code_of(self, check_commit, header, commit, MASTERNODES, OTHER), ErrorCode.BAD_PROOF)


class Inclusions(SynchronousTestCase):
    @given(st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=9, unique=True), st.integers(0, 3))
    def test_every_entry_is_proved_and_no_other(self, txids: list[str], verdicts: int) -> None:
        """Each leaf by its own index and path; under no other index, and no other leaf by it."""
        draft = decided_block(transactions=txids).block
        bare = tuple(Verdict("abort", f"{number:064x}", verdict(OTHER).votes) for number in range(verdicts))
        draft = replace(draft, verdicts=bare)
        block = replace(draft, header=replace(draft.header, root=draft.tree.root.hex()))
        decided = DecidedBlock(block, decided_commit(block.header))
        entries = leaves(block.coinbase, block.transactions, block.verdicts)
        self.assertLessEqual(len(entries), 2**limits.BLOCK_PATH)
        for index, leaf in enumerate(entries):
            proof = inclusion_proof(decided, index)
            check_inclusion(proof, leaf, MASTERNODES, GENESIS.hash)
            for other in (*entries, transaction_leaf(OTHER), verdict_leaf("commit", leaf[1:].hex())):
                if other != leaf:
                    self.assertRaises(Refusal, check_inclusion, proof, other, MASTERNODES, GENESIS.hash)
            if len(entries) > 1:
                elsewhere = replace(proof, index=(index + 1) % len(entries))
                self.assertRaises(Refusal, check_inclusion, elsewhere, leaf, MASTERNODES, GENESIS.hash)
            with_more = replace(proof, path=(*proof.path, OTHER))
            self.assertRaises(Refusal, check_inclusion, with_more, leaf, MASTERNODES, GENESIS.hash)

    def test_only_of_a_decided_block(self) -> None:
        """The path alone proves nothing: the commit is checked, and that the header is the one it names."""
        decided = decided_block(transactions=[HASH])
        proof = inclusion_proof(decided, 1)
        check_inclusion(proof, transaction_leaf(HASH), MASTERNODES, GENESIS.hash)
        short = replace(proof.commit, signatures=proof.commit.signatures[:4])
        other = decided_block(transactions=[HASH, OTHER])
        for fault in (replace(proof, commit=short), replace(proof, commit=other.commit),
                      replace(proof, header=replace(proof.header, round=9))):
            code = code_of(self, check_inclusion, fault, transaction_leaf(HASH), MASTERNODES, GENESIS.hash)
            self.assertEqual(code, ErrorCode.BAD_PROOF)

    def test_a_verdict_is_no_transaction(self) -> None:
        """That something was aborted is no proof that it was paid."""
        draft = replace(decided_block().block, verdicts=(Verdict("abort", HASH, verdict(HASH).votes),))
        block = replace(draft, header=replace(draft.header, root=draft.tree.root.hex()))
        proof = inclusion_proof(DecidedBlock(block, decided_commit(block.header)), 1)
        check_inclusion(proof, verdict_leaf("abort", HASH), MASTERNODES, GENESIS.hash)
        self.assertRaises(Refusal, check_inclusion, proof, transaction_leaf(HASH), MASTERNODES, GENESIS.hash)


class Minting(SynchronousTestCase):
    def test_what_a_coinbase_is(self) -> None:
        """One null input with the height, no signature, fees and subsidy to the proposer's own address."""
        tx = make_coinbase(7, COIN + 30_000, VOTERS[0].public_hex, GENESIS.params)
        self.assertEqual([each.previous_output for each in tx.inputs], [NULL_OUTPOINT])
        self.assertEqual(bytes(tx.inputs[0].script_sig), (7).to_bytes(8, "little") + bytes(24))
        self.assertEqual(tx.outputs, (TxOutput(COIN + 30_000, address(VOTERS[0])),))
        self.assertEqual((tx.fee, tx.timestamp, tx.signature, tx.txid), (0, 0, (), tx.computed_txid))

    def test_no_two_are_alike(self) -> None:
        """Each height, proposer and network has its own, or a coin would be made twice."""
        made = [make_coinbase(height, COIN, voter.public_hex, NETWORKS[network])
                for height in (1, 2, 256) for voter in VOTERS[:2] for network in ("mainnet", "testnet")]
        self.assertEqual(len({tx.txid for tx in made}), len(made))

    def test_the_subsidy_halves(self) -> None:
        """1 TIME up to number 2,100,000, then half, and in the end nothing; all of it is less than the bound."""
        params = GENESIS.params
        eras = [params.subsidy(era * params.halving + 1) for era in range(40)]
        self.assertEqual(eras[:3], [COIN, COIN // 2, COIN // 4])
        self.assertEqual((params.subsidy(1), params.subsidy(params.halving)), (COIN, COIN))
        self.assertEqual(params.subsidy(params.halving + 1), COIN // 2)
        self.assertEqual(eras[-1], 0)
        self.assertLess(sum(eras) * params.halving, params.most_minted)

    def test_nothing_to_pay_is_no_output(self) -> None:
        """When nothing is minted any more and no fee was paid, there is no empty coin."""
        self.assertEqual(make_coinbase(7, 0, VOTERS[0].public_hex, GENESIS.params).outputs, ())
        self.assertEqual(make_coinbase(7, 5, VOTERS[0].public_hex, GENESIS.params).outputs[0].amount, 5)

    def test_a_coin_as_a_member(self) -> None:
        """Another outpoint, amount or address is another member of the commitment."""
        coins = [(Outpoint(txid, vout), TxOutput(amount, address(owner)))
                 for txid in (HASH, OTHER) for vout in (0, 1) for amount in (1, 256) for owner in VOTERS[:2]]
        self.assertEqual(len({coin_member(*coin) for coin in coins}), len(coins))


def decided_commit(header: BlockHeader) -> Commit:
    digest = header.hash(GENESIS.hash)
    signed = tuple(Precommit(voter.public_hex, word(voter=voter, block=digest).signature) for voter in VOTERS[:5])
    return Commit(1, 0, digest, MASTERNODES.hash, signed)
