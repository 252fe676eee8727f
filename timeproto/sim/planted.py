"""Planted bugs: each alters the real code for as long as a run lasts. A checker that finds none of them is worthless.

:func:`planted` plants one by its name; :data:`CATALOGUE` says of each what it breaks and within how many seeds the
simulator must find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import attrs

from timeproto.errors import ConfigurationError
from timeproto.sim import planted_blocks, planted_finality, planted_shell
from timeproto.sim.grafting import Graft

SEEDS = 12
"""Runs within which a planted bug must be found, unless it says otherwise."""


@attrs.frozen
class Planted:
    """``seeds`` is the bound, ``masternodes``, ``faults`` and ``seconds`` what to run it with, ``promises`` those that
    it may break."""

    says: str
    grafts: Callable[[], list[Graft]]
    promises: tuple[int, ...]
    seeds: int = SEEDS
    masternodes: int = 4
    faults: str = "all"
    seconds: int | None = None



_finality, _blocks, _shell = planted_finality, planted_blocks, planted_shell

_LIARS = "byzantine,wallets"

CATALOGUE: dict[str, Planted] = {
    # what is kept, and when it leaves
    "vote_before_durable": Planted("a step's words leave before its commit", _shell.vote_before_durable, (4,)),
    "announce_before_durable": Planted(
        "wallets are told before the commit", _shell.announce_before_durable, (6, 4), 40
    ),
    "forget_votes": Planted("a restart does not read the votes cast before", _finality.forget_votes, (4, 1)),
    "forget_words": Planted("a restart does not read the words about blocks", _blocks.forget_words, (4,), 60),
    "votes_not_kept": Planted(
        "the batch leaves, its record stays out of the change set", _finality.votes_not_kept, (4,)
    ),
    "locks_in_memory": Planted("a locked coin is written as Unspent", _finality.locks_in_memory, (3, 4, 6)),
    "timers_on_wall_clock": Planted(
        "timers run by a clock that somebody sets", _shell.timers_on_wall_clock, (7,), 100,
        faults="clocks,byzantine,wallets",
    ),
    # certificates
    "quorum_off_by_one": Planted("q - 1 votes make a certificate", _finality.quorum_off_by_one, (1,)),
    "simple_majority": Planted("n/2 + 1 votes make a certificate", _finality.simple_majority, (1,), masternodes=7),
    "edge_triggered_quorum": Planted(
        "a quorum is acted on at the very vote that completes it", _finality.edge_triggered_quorum, (7,), 40
    ),
    "count_signer_twice": Planted("each copy of a vote counts", _finality.count_signer_twice, (1,)),
    "one_round": Planted("a lock certificate makes final", _finality.one_round, (1,)),
    "proof_unchecked": Planted("a proof is believed by its size", _finality.proof_unchecked, (1, 2, 3), 150),
    "batches_unverified": Planted("votes are believed unsigned", _finality.batches_unverified, (1, 4), 60),
    "trust_notifications": Planted(
        "a peer's word about a coin is taken", _finality.trust_notifications, (1, 2, 3), 60, faults=_LIARS, seconds=8
    ),
    # locks, releases, verdicts
    "partial_lock": Planted("the first of several inputs is locked", _finality.partial_lock, (1,)),
    "release_on_timeout": Planted("a lock ends after three seconds", _finality.release_on_timeout, (1,)),
    "act_on_abort_certificate": Planted(
        "an abort certificate frees coins without a block", _finality.act_on_abort_certificate, (1, 2), 30
    ),
    "commit_after_abort": Planted("who aborted still commits", _finality.commit_after_abort, (4,), 30),
    "abort_after_commit": Planted("who committed still aborts", _finality.abort_after_commit, (4,), 60),
    "abort_unasked": Planted("what nobody contests is aborted too", _finality.abort_unasked, (4,), 60),
    "fee_from_the_senders_field": Planted("inputs and outputs are not summed", _finality.fee_unchecked, (3,), 120),
    "value_disappears": Planted("a payment's second output is not made", _finality.value_disappears, (3,)),
    "evidence_against_resender": Planted(
        "a lock vote and a commit vote pass for a double vote", _finality.evidence_against_resender, (4,), 40
    ),
    "evidence_across_a_release": Planted(
        "who locks a freed coin again is accused", _finality.evidence_across_a_release, (4,), 60,
        faults="wan,tail,wallets", seconds=8,
    ),
    "unbounded_orphans": Planted(
        "no transaction that waits is ever pushed out", _finality.unbounded_orphans, (8,), 60, faults="wallets,limits"
    ),
    # blocks
    "sign_after_block": Planted(
        "votes cast before a block are signed at its height", _blocks.sign_after_block, (2, 4), 120,
        faults="pauses,wallets", seconds=10,
    ),
    "skip_tendermint_lock": Planted(
        "a lock on a block binds nobody", _blocks.skip_tendermint_lock, (5,), 100, faults=_LIARS, seconds=15
    ),
    "block_quorum_off_by_one": Planted("q - 1 prevotes make a polka", _blocks.quorum_off_by_one, (5,)),
    "unordered_iteration": Planted("a block's transactions come in a set's order", _blocks.unordered, (5,)),
    "unfinal_in_block": Planted(
        "a block may hold what is not final", _blocks.unfinal_in_block, (0, 1, 2, 5), 80, faults=_LIARS, seconds=15
    ),
    "commitment_unchecked": Planted(
        "a block's figures are not made again", _blocks.commitment_unchecked, (1, 3, 5), 80, faults=_LIARS, seconds=15
    ),
    "any_subsidy": Planted(
        "a block may take a subsidy or leave it, due or not", _blocks.any_subsidy, (3,), 80, faults=_LIARS, seconds=15
    ),
    "far_future_block": Planted(
        "a block's time is not compared with the clock", _blocks.far_future, (5,), 120, faults=_LIARS, seconds=15
    ),
    "commit_unchecked": Planted(
        "a decided block is believed without its votes", _blocks.commit_unchecked, (1, 5), 60, faults=_LIARS, seconds=15
    ),
    "words_dropped_while_not_voting": Planted(
        "a round goes on though its words cannot be signed", _blocks.words_dropped, (7,), 30
    ),
    "second_verdict": Planted(
        "a block may give a verdict on what is decided", _blocks.second_verdict, (2, 5), 100, faults=_LIARS, seconds=15
    ),
    "rivals_outlive_a_block": Planted(
        "a block leaves rivals of its transactions as they are", _blocks.rivals_stay, (7,), 60, faults="wallets"
    ),
    "rest_of_a_block_forgotten": Planted(
        "a restart leaves what the last block did not mark Confirmed as it is",
        _blocks.rest_forgotten, (5, 7), 20, faults="limits,crashes",
    ),
}


def planted(name: str | None) -> AbstractContextManager[None]:
    """The bug called ``name``, within; :class:`ConfigurationError` if there is none. None plants nothing."""
    if name is None:
        return nullcontext()
    if name not in CATALOGUE:
        raise ConfigurationError(f"no bug is called {name!r}; there are: {', '.join(CATALOGUE)}")
    return _grafted(CATALOGUE[name].grafts())


@contextmanager
def _grafted(grafts: list[Graft]) -> Iterator[None]:
    before: list[tuple[Graft, Any]] = []
    try:
        for graft in grafts:
            before.append((graft, graft.plant()))
        yield
    finally:
        for graft, original in reversed(before):
            graft.remove(original)
