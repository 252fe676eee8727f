"""Blocks that the one masternode of a test's world decides, whatever the node itself thinks of them."""

from __future__ import annotations

from tests.cluster import key
from timeproto.model.block import (
    Block,
    BlockHeader,
    BlockVote,
    BlockVoteKind,
    Commit,
    DecidedBlock,
    Precommit,
    Verdict,
    inclusion_proof,
    leaves,
    make_coinbase,
    sign_block_vote,
)
from timeproto.model.certificate import signed_vote
from timeproto.model.genesis import Genesis
from timeproto.model.merkle import MerkleTree
from timeproto.model.transaction import Transaction
from timeproto.model.vote import sign_batch
from timeproto.params import COIN
from timeproto.wire import messages


def decide(genesis: Genesis, *aborted: Transaction, contains: tuple[str, ...] = ()) -> DecidedBlock:
    """Block 1, with abort verdicts on these transactions, and with these txids."""
    voter, set_ = key(1), genesis.masternode_set
    verdicts = []
    for tx in aborted:
        batch = sign_batch(voter, genesis.hash, set_.hash, 0, abort=[tx.txid])
        verdicts.append(Verdict("abort", tx.txid, (signed_vote(batch, 0),)))
    coinbase = make_coinbase(1, COIN, voter.public_hex, genesis.params)
    root = MerkleTree(leaves(coinbase, contains, verdicts)).root.hex()
    header = BlockHeader(1, genesis.hash, 1, voter.public_hex, 0, root, set_.hash, "00" * 32)
    digest = header.hash(genesis.hash)
    unsigned = BlockVote(BlockVoteKind.PRECOMMIT, voter.public_hex, set_.hash, 1, 0, digest, None, "0" * 128)
    signed = Precommit(voter.public_hex, sign_block_vote(voter, genesis.hash, unsigned).signature)
    commit = Commit(1, 0, digest, set_.hash, (signed,))
    return DecidedBlock(Block(header, coinbase, contains, tuple(verdicts)), commit)


def aborted(genesis: Genesis, tx: Transaction) -> messages.TransactionInfo:
    """``tx`` was ended by the verdict in such a block."""
    decided = decide(genesis, tx)
    place = inclusion_proof(decided, decided.block.verdict_index(tx.txid))
    return messages.TransactionInfo(tx=tx, status="aborted", height=1, inclusion=place)


def beaten(genesis: Genesis, tx: Transaction, rival: Transaction) -> dict[str, messages.TransactionInfo]:
    """``tx`` was ended by such a block, since it contains ``rival``: what the node says of each."""
    place = inclusion_proof(decide(genesis, contains=(rival.txid,)), 1)
    return {
        tx.txid: messages.TransactionInfo(
            tx=tx, status="aborted", height=1, inclusion=place, conflicting_txid=rival.txid
        ),
        rival.txid: messages.TransactionInfo(tx=rival, status="final", height=1, inclusion=place),
    }
