"""Change sets as a replica makes them, and any others, for tests of stores."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from tests.cluster import COIN, DEVNET, address, key, make_genesis, pay
from tests.examples import PAYMENT, proof_of
from tests.examples import batch as signed_batch
from timeproto.consensus.effects import Submit
from timeproto.consensus.replica import Replica, found
from timeproto.model.certificate import signed_vote
from timeproto.model.ledger import (
    Changes,
    Coin,
    Evidence,
    OwnVotes,
    Store,
    Summary,
    Tally,
    TransactionRecord,
    Transition,
)
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.model.utxo_state import UNSPENT, Confirmed, Locked, SpentFinalized, SpentPending, UTXOState

WALLETS = [key(1_000 + number) for number in range(3)]
GENESIS = make_genesis(1, WALLETS, coins=40)
OWNER = key(1)


def change_sets(seed: int, count: int, store: Store) -> list[Changes]:
    """``count`` change sets of a one-masternode replica over ``store``, which takes each as it comes."""
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
        taken = [coins.pop() for _ in range(chance.randint(1, 3))]
        to = [(address(chance.choice(WALLETS)), chance.randint(DEVNET.dust, COIN)) for _ in range(chance.randint(1, 3))]
        tx = pay(GENESIS, taken, to, timestamp=chance.randrange(1000))
        changes = replica.step([Submit(tx, object())], len(made)).changes
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
BATCH = signed_batch(lock=[TXIDS[0]], commit=[TXIDS[1]])


def output_of(outpoint: Outpoint) -> TxOutput:
    """A coin's output never changes."""
    at = OUTPOINTS.index(outpoint)
    return TxOutput((0, 1, 2**63, 2**64 - 1)[at % 4], ADDRESSES[at % len(ADDRESSES)])


def any_changes(chance: random.Random, before: Changes | None) -> Changes:
    """A change set that could follow ``before``: its numbers go on from there, all the rest is as it falls."""
    last = Summary(0, 0, 0, 0, 0, {}) if before is None else before.summary
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

    coins = {outpoint: Coin(output_of(outpoint), state()) for outpoint in some(OUTPOINTS, 6)}
    transitions = [
        Transition(
            last.position + 1 + index,
            outpoint,
            coin.output,
            chance.choice((None, state())),
            coin.state,
            chance.choice(TXIDS),
            now,
        )
        for index, (outpoint, coin) in enumerate(coins.items())
    ]
    finalized = some(TXIDS, 2)
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
        transactions={txid: any_record(chance, txid) for txid in some(TXIDS, 3)},
        own_votes={txid: OwnVotes(chance.choice(votes), chance.choice(votes)) for txid in some(TXIDS, 3)},
        batches=batches,
        transitions=transitions,
        finalized=finalized,
        evidence=evidence,
        caught_up={node: chance.randrange(2**64) for node in some(NODES, 2)},
    )


def any_record(chance: random.Random, txid: str) -> TransactionRecord:
    tx = msgspec.structs.replace(PAYMENT, txid=txid, timestamp=chance.randrange(2**40))
    # Final is for ever, so which of them ever are is settled by the txid.
    return TransactionRecord(tx, "final", PROOF) if TXIDS.index(txid) % 2 else TransactionRecord(tx, "pending")


def any_evidence(chance: random.Random) -> Evidence:
    vote = signed_vote(BATCH, chance.randrange(2))
    return Evidence(vote.voter, BATCH.set, chance.choice(OUTPOINTS), PAYMENT, vote, PAYMENT, vote)


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
