"""Fixed keys, a genesis, payments, votes and proofs for tests, golden vectors and the examples in the docs.

Everything here is made from small constants, so that it is the same on every run and every machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from timeproto.model.address import address_of
from timeproto.model.block import (
    Block,
    BlockHeader,
    BlockVote,
    BlockVoteKind,
    Commit,
    DecidedBlock,
    Precommit,
    inclusion_proof,
    leaves,
    make_coinbase,
    sign_block_vote,
)
from timeproto.model.certificate import FinalityProof, signed_vote
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.merkle import MerkleTree
from timeproto.model.transaction import (
    FINAL_SEQUENCE,
    Outpoint,
    Transaction,
    TxInput,
    TxOutput,
    canonical_bytes,
    sighash,
    txid_of,
)
from timeproto.model.vote import VoteBatch, VoteKind, sign_batch
from timeproto.params import COIN, NETWORKS
from timeproto.wire import codec

DEVNET = NETWORKS["devnet"]


def key(number: int) -> SigningKey:
    """Key ``number``: its seed is 32 times that byte."""
    return SigningKey(bytes([number]) * 32)


ALICE, BOB, CAROL = key(1), key(2), key(3)
VOTERS = tuple(key(number) for number in range(101, 108))
STRANGER = key(200)


def address(owner: SigningKey, network: str = "devnet") -> str:
    return address_of(owner.public_bytes, NETWORKS[network])


GENESIS = Genesis(
    version=2,
    network="devnet",
    timestamp=1_700_000_000,
    block_interval=5,
    masternodes=tuple(voter.public_hex for voter in VOTERS),
    allocations=(
        TxOutput(1_000 * COIN, address(ALICE)),
        TxOutput(500 * COIN, address(ALICE)),
        TxOutput(250 * COIN, address(BOB)),
    ),
)
MASTERNODES = GENESIS.masternode_set
FEE = 10_000


def build(
    coins: Iterable[tuple[Outpoint, SigningKey]],
    outputs: Iterable[tuple[int, str]],
    *,
    fee: int = FEE,
    timestamp: int = 1_700_000_123,
    genesis_hash: str = GENESIS.hash,
) -> Transaction:
    """A transaction signed by the owners of ``coins``, valid or not."""
    spent = tuple(coins)
    inputs = tuple(TxInput(outpoint, tuple(owner.public_bytes), FINAL_SEQUENCE) for outpoint, owner in spent)
    made = tuple(TxOutput(amount, owner) for amount, owner in outputs)
    canonical = canonical_bytes(inputs, made, timestamp, fee)
    owners = {owner.public_bytes: owner for _, owner in spent}
    signature = b"".join(owner.sign(sighash(canonical, genesis_hash)) for owner in owners.values())
    return Transaction(txid_of(canonical), inputs, made, timestamp, tuple(signature), fee)


PAYMENT = build(
    [(Outpoint(GENESIS.hash, 0), ALICE)],
    [(100 * COIN, address(BOB)), (900 * COIN - FEE, address(ALICE))],
)


def batch(voter: SigningKey = VOTERS[0], **votes: Iterable[str]) -> VoteBatch:
    return sign_batch(voter, GENESIS.hash, MASTERNODES.hash, 0, **votes)


def proof_of(
    txid: str,
    voters: Iterable[SigningKey] = VOTERS[:5],
    *,
    kind: VoteKind = VoteKind.COMMIT,
    beside: Iterable[str] = (),
    set_hash: str = MASTERNODES.hash,
    genesis_hash: str = GENESIS.hash,
) -> FinalityProof:
    """A proof from one batch of each voter, in which ``txid`` stands among the votes ``beside`` it."""
    votes = []
    for voter in voters:
        signed = sign_batch(voter, genesis_hash, set_hash, 0, **{kind.name.lower(): [txid, *beside]})
        index = list(signed.votes()).index((kind, txid))
        votes.append(signed_vote(signed, index))
    return FinalityProof(txid, set_hash, tuple(votes))


def decided_block(
    genesis: Genesis = GENESIS, voters: Iterable[SigningKey] = VOTERS[:5], *, transactions: Iterable[str] = ()
) -> DecidedBlock:
    """Block 1 of a network, with the precommits of ``voters``; what it says of coins nobody has checked."""
    set_ = genesis.masternode_set
    proposer = VOTERS[0].public_hex
    coinbase = make_coinbase(1, COIN, proposer, genesis.params)
    root = MerkleTree(leaves(coinbase, transactions, ())).root.hex()
    header = BlockHeader(1, genesis.hash, genesis.timestamp * 1000 + 1, proposer, 0, root, set_.hash, "00" * 32)
    digest = header.hash(genesis.hash)
    signed = []
    for voter in voters:
        unsigned = BlockVote(BlockVoteKind.PRECOMMIT, voter.public_hex, set_.hash, 1, 0, digest, None, "0" * 128)
        signed.append(Precommit(voter.public_hex, sign_block_vote(voter, genesis.hash, unsigned).signature))
    commit = Commit(1, 0, digest, set_.hash, tuple(signed))
    return DecidedBlock(Block(header, coinbase, tuple(transactions), ()), commit)


def plain(noun: Any) -> Any:
    """A noun or message as the JSON value it is on the wire."""
    return json.loads(codec.encode(noun))


DECIDED = decided_block()
_OUTPOINT = Outpoint(GENESIS.hash, 0)
_OUTPUT = TxOutput(COIN, address(BOB))
_PROOF = proof_of(PAYMENT.txid)
_PREVOTE = sign_block_vote(
    VOTERS[0],
    GENESIS.hash,
    BlockVote(BlockVoteKind.PREVOTE, VOTERS[0].public_hex, MASTERNODES.hash, 1, 0, PAYMENT.txid, None, "0" * 128),
)
_COIN = {"outpoint": plain(_OUTPOINT), "state": "Unspent", "output": plain(_OUTPUT)}
_NAMED: dict[str, Any] = {
    "tx": plain(PAYMENT),
    "transactions": plain(PAYMENT),
    "proof": plain(_PROOF),
    "proofs": plain(_PROOF),
    "batches": plain(batch(lock=[PAYMENT.txid])),
    "outpoint": plain(_OUTPOINT),
    "output": plain(_OUTPUT),
    "inclusion": plain(inclusion_proof(DECIDED, 0)),
    "blocks": plain(DECIDED),
    "block": plain(DECIDED.block),
    "vote": plain(_PREVOTE),
    "cursor": {"node": VOTERS[0].public_hex, "position": 12},
    "coins": _COIN,
    "states": _COIN,
    "genesis": plain(GENESIS),
    "Locked": {"txid": PAYMENT.txid, "locked_at": 1_700_000_000_000},
    "SpentPending": {"txid": PAYMENT.txid, "votes": 5, "total_nodes": 7, "spent_at": 1_700_000_000_000},
    "SpentFinalized": {"txid": PAYMENT.txid, "finalized_at": 1_700_000_000_000, "votes": 5},
}


def fill(example: str) -> bytes:
    """A JSON example from the docs with its shorthand written out.

    ``hex32`` and ``hex64`` stand for that many bytes in hex, ``"TIME0…"`` for an address, and ``{…}`` for the object
    that the key before it names.
    """
    text = example.replace("hex32", f'"{PAYMENT.txid}"').replace("hex64", f'"{bytes(PAYMENT.signature).hex()}"')
    text = text.replace("TIME0…", address(BOB))
    text = re.sub(r'"(\w+)": (\[?)\{…\}', lambda m: f'"{m[1]}": {m[2]}{json.dumps(_NAMED[m[1]])}', text)
    return text.encode("utf-8")


def replace(noun: Any, **fields: Any) -> Any:
    """The same noun with some fields different, checked no more than a constructor checks."""
    return msgspec.structs.replace(noun, **fields)
