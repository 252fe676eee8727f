"""Bugs of blocks: the agreement, what a block may be, what it does."""

from __future__ import annotations

from typing import Any

import msgspec

from timeproto.consensus import chain, verifier
from timeproto.consensus.agreement import Agreement
from timeproto.consensus.chain import Chain
from timeproto.consensus.decided import Decisions
from timeproto.consensus.finality import Finality
from timeproto.consensus.payments import Payments
from timeproto.consensus.replica import Replica
from timeproto.consensus.rounds import Judgement, Rounds
from timeproto.model.block import BlockVoteKind
from timeproto.sim.grafting import Graft
from timeproto.storage.memory import MemoryStore


def forget_words() -> list[Graft]:
    return [Graft(MemoryStore, "sign_state", lambda _: lambda store: None)]


def skip_tendermint_lock() -> list[Graft]:
    def make(prevote: Any) -> Any:
        def free(rounds: Any) -> Any:
            rounds.locked = rounds.locked_round = None
            return prevote(rounds)

        return free

    return [Graft(Rounds, "_prevote", make)]


def quorum_off_by_one() -> list[Graft]:
    def make(_: Any) -> Any:
        def smaller(rounds: Any, round_: int, block: str | None) -> bool:
            votes = rounds._votes.get((round_, BlockVoteKind.PREVOTE), {}).values()
            return bool(sum(vote.block == block for vote in votes) >= rounds._masternodes.quorum - 1)

        return smaller

    return [Graft(Rounds, "_has_polka", make)]


def unordered() -> list[Graft]:
    return [Graft(chain, "in_order", lambda original: lambda parents: list(set(original(parents))))]


def unfinal_in_block() -> list[Graft]:
    return [Graft(Chain, "_unproven", lambda _: lambda self, block: ())]


def commitment_unchecked() -> list[Graft]:
    def make(original: Any) -> Any:
        def believing(self: Any, block: Any) -> bool:
            original(self, block)
            transactions = [self._require(txid) for txid in block.transactions]
            self._remember(block.header.hash(self._known.genesis.hash), self._after(block.coinbase, transactions))
            return True

        return believing

    return [Graft(Chain, "_figures_are_right", make)]


def any_subsidy() -> list[Graft]:
    """A coinbase may have a subsidy that is not due, and have none that is."""

    def make(right: Any) -> Any:
        def generous(self: Any, block: Any) -> bool:
            tip = self.tip
            found = False
            for due in (tip.due, block.header.timestamp, block.header.timestamp + 1):
                self.tip = msgspec.structs.replace(tip, due=due)
                found = found or right(self, block)
            self.tip = tip
            return found

        return generous

    return [Graft(Chain, "_figures_are_right", make)]


def far_future() -> list[Graft]:
    def make(judge: Any) -> Any:
        def timeless(self: Any, block: Any, now: int) -> Any:
            judgement = judge(self, block, now)
            return Judgement.GOOD if judgement is Judgement.EARLY else judgement

        return timeless

    return [Graft(Chain, "judge", make)]


def words_dropped() -> list[Graft]:
    """Rounds go on while this replica may not sign, and what they would have said is lost."""

    def make(_: Any) -> Any:
        def at_once(agreement: Any) -> None:
            agreement._rounds.start()

        return at_once

    return [Graft(Agreement, "_start", make)]


def commit_unchecked() -> list[Graft]:
    return [Graft(verifier, "check_commit", lambda _: lambda header, commit, masternodes, genesis_hash: None)]


def second_verdict() -> list[Graft]:
    """A verdict is judged by its certificate, whatever the chain and the votes have made of its transaction."""

    def make(_: Any) -> Any:
        def forgetful(self: Any, block: Any) -> bool:
            listed = set(block.transactions)
            return all((verdict.txid in listed) == (verdict.kind == "commit") for verdict in block.verdicts)

        return forgetful

    return [Graft(Chain, "_verdicts_may_stand", make)]


def rivals_stay() -> list[Graft]:
    return [Graft(Payments, "take_beaten", lambda _: lambda payments, winner: [])]


def rest_forgotten() -> list[Graft]:
    def make(start: Any) -> Any:
        def forgetful(decisions: Any, finality: Any, chain: Any) -> None:
            start(decisions, finality, chain)
            finality.confirming.clear()

        return forgetful

    return [Graft(Decisions, "__init__", make)]


def sign_after_block() -> list[Graft]:
    """What was cast in a step is signed at its end, with the height of the blocks that were applied in it."""

    def stepping(step: Any) -> Any:
        def late(replica: Any, inputs: Any, now: int) -> Any:
            replica._finality._is_late = True
            return step(replica, inputs, now)

        return late

    def concluding(conclude: Any) -> Any:
        def late(agreement: Any) -> None:
            conclude(agreement)
            finality = agreement._finality
            decided = {txid: each for txid, each in finality.turn.transactions.items() if each.status != "pending"}
            finality._is_late = False
            finality.settle()
            finality.turn.transactions.update(decided)

        return late

    def settling(settle: Any) -> Any:
        def late(finality: Any) -> None:
            if not getattr(finality, "_is_late", False):
                settle(finality)
                return
            finishing, finality._finishing = finality._finishing, {}
            for txid, payment in finishing.items():
                try:
                    finality._finish(payment)
                except ValueError:  # its own vote is not signed yet
                    finality._finishing[txid] = payment

        return late

    return [
        Graft(Replica, "step", stepping),
        Graft(Agreement, "conclude", concluding),
        Graft(Finality, "settle", settling),
        Graft(Decisions, "apply", _without_signing),
    ]


def _without_signing(apply: Any) -> Any:
    def late(decisions: Any, decided: Any) -> None:
        finality = decisions._finality
        finality.sign = lambda: None
        try:
            apply(decisions, decided)
        finally:
            del finality.sign

    return late
