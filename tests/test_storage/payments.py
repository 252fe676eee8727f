"""Change sets as a replica makes them, and any others, for tests of stores."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from tests.cluster import COIN, DEVNET, address, key, make_genesis, pay
from tests.examples import DECIDED, PAYMENT, proof_of
from tests.examples import batch as signed_batch
from timeproto.consensus.effects import Submit, Timer, Wake
from timeproto.consensus.replica import Replica, found
from timeproto.model.block import BlockVote, BlockVoteKind, DecidedBlock
from timeproto.model.certificate import keep, signed_vote
from timeproto.model.ledger import (
    BlockEvidence,
    ChainTip,
    Changes,
    Coin,
    Ending,
    Evidence,
    OwnVotes,
    SignState,
    Store,
    Summary,
    Tally,
    TransactionRecord,
    Transition,
)
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import UNSPENT, Confirmed, Locked, SpentFinalized, SpentPending, UTXOState
from timeproto.storage.memory import MemoryStore

WALLETS = [key(1_000 + number) for number in range(3)]
GENESIS = make_genesis(1, WALLETS, coins=40)
OWNER = key(1)


def change_sets(seed: int, count: int, store: Store, *, blocks: bool = False) -> list[Changes]:
    """``count`` change sets of a one-masternode replica over ``store``, which takes each as it comes.

    One for each payment; with ``blocks`` every third is a block. The last is a payment.
    """
    chance = random.Random(seed)
    made = []
    founding = found(store, GENESIS)
    if founding is not None:
        store.commit(founding)
        made.append(founding)
    replica = Replica(store, GENESIS, OWNER)
    coins = [
        (outpoint, output.amount, next(each for each in WALLETS if address(each) == output.address))
        for outpoint, output in GENESIS.coins()
    ]
    chance.shuffle(coins)
    while len(made) < count:
        entry: Submit | Wake
        if blocks and len(made) % 3 == 0 and len(made) + 1 < count:
            entry = Wake(replica.height + 1, 0, Timer.HEIGHT)
        else:
            taken = [coins.pop() for _ in range(chance.randint(1, 3))]
            to = [(address(chance.choice(WALLETS)), chance.randint(DEVNET.dust, COIN))
                  for _ in range(chance.randint(1, 3))]
            entry = Submit(pay(GENESIS, taken, to, timestamp=chance.randrange(1000)), object())
        changes = replica.step([entry], 5_000 * len(made)).changes
        assert changes is not None
        store.commit(changes)
        made.append(changes)
    return made


# -- any change sets ---------------------------------------------------------------------------------

#: One is the beginning of another, one is not ASCII: keys on disk must tell them apart.
ADDRESSES = ("TIME0a", "TIME0ab", "TIME0a\x00b", "TIME0ä\u2028\U0001f600")
OUTPOINTS = [Outpoint(txid * 32, vout) for txid in ("00", "7f", "ff") for vout in (0, 1, 255, 256, 2**32 - 1)]
TXIDS = [f"{number:02x}" * 32 for number in (0, 1, 127, 128, 255)]
NODES = [f"{number:02x}" * 32 for number in (0, 9, 255)]
PROOF = proof_of(PAYMENT.txid, beside=TXIDS)
"""Of :data:`PAYMENT`; see :func:`final` for others."""
KEPT = keep(PROOF)
BATCH = signed_batch(lock=[TXIDS[0]], commit=[TXIDS[1]])


def final(tx: Transaction, height: int | None = None) -> TransactionRecord:
    """A record with a proof of its own, as far as a store looks."""
    return TransactionRecord(tx, "final", msgspec.structs.replace(KEPT, set=bytes.fromhex(tx.txid)), height)


def output_of(outpoint: Outpoint) -> TxOutput:
    """A coin's output never changes."""
    at = OUTPOINTS.index(outpoint)
    return TxOutput((0, 1, 2**63, 2**64 - 1)[at % 4], ADDRESSES[at % len(ADDRESSES)])


HEIGHTS = (0, 1, 2**63, 2**64 - 1)


def any_changes(chance: random.Random, ledger: MemoryStore) -> Changes:
    """A change set that could follow what ``ledger`` holds: numbers go on from there, what is for ever stays, all the
    rest is as it falls."""
    last = ledger.summary() or Summary(0, 0, 0, 0, 0, {})
    now = chance.choice((0, 1, -(2**63), 2**63 - 1))

    def state() -> UTXOState:
        txid = chance.choice(TXIDS)
        states = (
            UNSPENT,
            Locked(txid, now),
            SpentPending(txid, 2**32 - 1, 0, now),
            SpentFinalized(txid, now, 5),
            Confirmed(txid, 2**64 - 1, now),
        )
        return chance.choice(states)

    def some(pool: list[Any], most: int) -> list[Any]:
        return chance.sample(pool, chance.randint(0, min(most, len(pool))))

    coins = {}
    transitions = []
    for outpoint in some(OUTPOINTS, 6):
        output, before = output_of(outpoint), ledger.coin(outpoint)
        old = None if before is None else before.state
        for _ in range(chance.randint(0, 2)):
            new = state()
            position = last.position + 1 + len(transitions)
            transitions.append(Transition(position, outpoint, output, old, new, chance.choice(TXIDS), now))
            old = new
        coins[outpoint] = Coin(output, old if transitions and transitions[-1].outpoint == outpoint else state())
    transactions = {txid: any_record(chance, txid, ledger) for txid in some(TXIDS, 3)}
    finalized = [chance.randbytes(32).hex() for _ in range(chance.randint(0, 3))]
    confirmed = some([record.tx.txid for record in ledger.unconfirmed()], 3)
    for txid in (*finalized, *confirmed):
        is_in_block = txid in confirmed or chance.random() < 0.3
        tx = msgspec.structs.replace(PAYMENT, txid=txid)
        transactions[txid] = final(tx, chance.choice(HEIGHTS) if is_in_block else None)
    tip = ledger.tip()
    first = 1 if tip is None else tip.height + 1
    blocks = [any_block(chance, first + index) for index in range(chance.choice((0, 0, 1, 2)))]
    state = ledger.sign_state()
    for signed in () if state is None else state.blocks:
        if blocks and signed.header.height == first and chance.random() < 0.7:
            blocks[0] = DecidedBlock(signed, blocks[0].commit)
    batches = {last.batches + index: BATCH for index in range(chance.randint(0, 2))}
    evidence = [any_evidence(chance) for _ in range(chance.randint(0, 2))]
    summary = Summary(
        position=last.position + len(transitions),
        finalized=last.finalized + len(finalized),
        batches=last.batches + len(batches),
        evidence=last.evidence + len(evidence),
        digest=chance.randrange(2**256),
        tallies={"Unspent": Tally(chance.randrange(2**63), chance.randrange(2**90)), "Confirmed": Tally()},
    )
    votes = (None, 0, 2**63)
    return Changes(
        summary,
        coins=coins,
        transactions=transactions,
        own_votes={txid: OwnVotes(*(chance.choice(votes) for _ in range(3))) for txid in some(TXIDS, 3)},
        batches=batches,
        transitions=transitions,
        finalized=finalized,
        evidence=evidence,
        caught_up={node: chance.randrange(2**64) for node in some(NODES, 2)},
        blocks=blocks,
        tip=ChainTip(first - 1 + len(blocks), TXIDS[1], now, len(blocks), now, "f" * 768) if blocks else None,
        endings={txid: Ending(chance.choice(HEIGHTS), chance.choice((None, TXIDS[0]))) for txid in some(TXIDS, 2)},
        sign_state=any_sign_state(chance, state, first) if chance.random() < 0.5 else None,
    )


def any_record(chance: random.Random, txid: str, ledger: MemoryStore) -> TransactionRecord:
    tx = msgspec.structs.replace(PAYMENT, txid=txid, timestamp=chance.randrange(2**40))
    # Final is for ever, so which of them ever are is settled by the txid; and so is the end of the others.
    if TXIDS.index(txid) % 2:
        return final(tx)
    before = ledger.transaction(txid)
    is_ended = (before is not None and before.status == "aborted") or chance.random() < 0.2
    return TransactionRecord(tx, "aborted" if is_ended else "pending")


def any_evidence(chance: random.Random) -> Evidence | BlockEvidence:
    vote = signed_vote(BATCH, chance.randrange(2))
    if chance.random() < 0.3:
        return BlockEvidence(vote.voter, any_word(chance), any_word(chance))
    return Evidence(vote.voter, BATCH.set, chance.choice(OUTPOINTS), PAYMENT, vote, PAYMENT, vote)


def any_word(chance: random.Random) -> BlockVote:
    place = chance.choice(HEIGHTS), chance.choice((0, 2**32 - 1))
    if chance.random() < 0.3:
        return BlockVote(BlockVoteKind.PROPOSAL, NODES[0], NODES[1], HEIGHTS[2], 2**32 - 1, TXIDS[0], 0, "f" * 128)
    kind = chance.choice((BlockVoteKind.PREVOTE, BlockVoteKind.PRECOMMIT))
    return BlockVote(kind, NODES[0], NODES[1], *place, chance.choice((None, TXIDS[0])), None, "f" * 128)


def any_block(chance: random.Random, height: int) -> DecidedBlock:
    timestamp = chance.choice((-(2**63), 2**63 - 1))
    header = msgspec.structs.replace(DECIDED.block.header, height=height, timestamp=timestamp)
    block = msgspec.structs.replace(DECIDED.block, header=header, transactions=tuple(chance.sample(TXIDS, 2)))
    return DecidedBlock(block, msgspec.structs.replace(DECIDED.commit, height=chance.choice(HEIGHTS)))


def any_sign_state(chance: random.Random, before: SignState | None, height: int) -> SignState:
    """Some of its blocks are those of the one before, some of those that are new are for ``height``."""
    words = tuple(any_word(chance) for _ in range(chance.randint(0, 3)))
    kept = [block for block in (() if before is None else before.blocks) if chance.random() < 0.5]
    new = [any_block(chance, chance.choice((height, *HEIGHTS))).block for _ in range(chance.randint(0, 2))]
    blocks = tuple(chance.sample(kept + new, min(2, len(kept + new))))
    rounds = chance.choice((None, 0, 2**32 - 1))
    return SignState(chance.choice(HEIGHTS), 2**32 - 1, words, TXIDS[0], rounds, None, rounds, words[:1], blocks)


# -- all that a store says ---------------------------------------------------------------------------


def everything(store: Any) -> dict[str, Any]:
    """All that can be asked of a store about the above, as one value."""
    owners = [*map(address, WALLETS), *ADDRESSES]
    pages = {(owner, spent): pages_of(store, owner, 1_000, spent) for owner in owners for spent in (False, True)}
    transitions = store.transitions(0, 10_000)
    finalized = store.finalized(0, 10_000)
    txids = sorted({*TXIDS, *finalized, *(each.txid for each in transitions)})
    outpoints = {*OUTPOINTS, *(outpoint for outpoint, _ in GENESIS.coins()), *(each.outpoint for each in transitions)}
    return {
        "summary": store.summary(),
        "coins": {outpoint: store.coin(outpoint) for outpoint in sorted(outpoints)},
        "transactions": {txid: store.transaction(txid) for txid in txids},
        "own votes": {txid: store.own_votes(txid) for txid in txids},
        "batches": [store.batch(number) for number in range(60)],
        "pending": list(store.pending()),
        "finalized": finalized,
        "transitions": transitions,
        "evidence": store.evidence(1_000),
        "unconfirmed": list(store.unconfirmed()),
        "tip": store.tip(),
        "blocks": [store.block(height) for height in range(40)],
        "endings": {txid: store.ending(txid) for txid in txids},
        "sign state": store.sign_state(),
        "caught up": store.caught_up(),
        "addresses": pages,
    }


def pages_of(store: Any, owner: str, size: int, spent: bool) -> list[tuple[Outpoint, Coin]]:
    """Every coin of an address, read in pages of ``size``."""
    coins: list[tuple[Outpoint, Coin]] = []
    more = True
    while more:
        page, more = store.address_coins(owner, coins[-1][0] if coins else None, size, spent=spent)
        coins += page
    return coins
