"""After the faults have healed: what is still owed (promise 7), and when nothing is, the last look at everything."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from timeproto.consensus.payments import Standing
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import Confirmed, SpentFinalized, holder, kind
from timeproto.sim.book import Book
from timeproto.sim.bounds import left_over
from timeproto.sim.checkers import Checkers
from timeproto.sim.masternode import Masternode
from timeproto.sim.promises import Broken
from timeproto.sim.tally import Tally
from timeproto.sim.trace import short, shorts
from timeproto.sim.wallets import Wallets

JUDGED = (Standing.OPEN, Standing.LOCKED, Standing.RIVAL)


class Whole(Protocol):
    """The run, as far as the reckoning needs it."""

    book: Book
    wallets: Wallets
    checkers: Checkers
    tally: Tally

    @property
    def honest(self) -> list[Masternode]: ...


class Reckoning:
    """:meth:`undecided` is asked until nothing is left; then :meth:`respend` makes new demands, and :meth:`unmet` is
    asked until nothing is left of all; then comes :meth:`conclude`."""

    def __init__(self, run: Whole) -> None:
        self._run = run

    # -- what is owed --------------------------------------------------------------------------------

    def undecided(self) -> list[str]:
        """What must be final or ended and is not yet, in words."""
        run = self._run
        for node in run.honest:
            if node.replica.not_voting is not None:
                return [f"{node.number} does not vote: {node.replica.not_voting}"]
        owed = []
        for tx in run.wallets.accepted:
            if not run.book.is_contested(tx.txid):
                missing = [node.number for node in run.honest if not _is_final(node, tx.txid)]
                if missing:
                    owed.append(f"{short(tx.txid)} was accepted, nobody contests it, and it is not final at {missing}")
        unanswered = run.wallets.unanswered()
        if unanswered:
            owed.append(f"no answer yet: {' '.join(unanswered[:4])}")
        return owed + self._waiting("Locked", "SpentPending") + self._open()

    def _open(self) -> list[str]:
        """Payments that somebody has judged and nobody has decided."""
        owed = []
        for node in self._run.honest:
            judged = [each.txid for each in node.replica.payments if each.standing in JUDGED]
            if judged:
                owed.append(f"{shorts(judged)} are open at {node.number}")
        return owed

    def unmet(self) -> list[str]:
        """What is undecided, in no block, or not the same everywhere; empty when all is done and everybody rests."""
        return self.undecided() or self._waiting("SpentFinalized") or self._disagreements() or self._at_work()

    def _waiting(self, *states: str) -> list[str]:
        """Coins that must not stay as they are."""
        owed = []
        for node in self._run.honest:
            tallies = node.replica.manager.tallies
            waiting = {name: tallies[name].coins for name in states if tallies[name].coins}
            if waiting:
                owed.append(f"coins wait at {node.number}: {waiting}, contested {node.replica.contested}")
        return owed

    def _at_work(self) -> list[str]:
        busy = [node.number for node in self._run.honest if node.is_committing]
        return [f"commits are under way at {busy}"] if busy else []

    def _disagreements(self) -> list[str]:
        honest = self._run.honest
        for name, figures in (
            ("heights", {node.replica.tip.height for node in honest}),
            ("tips", {node.replica.tip.hash for node in honest}),
            ("commitments", {node.replica.commitment for node in honest}),
            ("counts of finals", {node.replica.final_count for node in honest}),
            ("digests", {node.replica.state_digest() for node in honest}),
        ):
            if len(figures) > 1:
                return [f"the {name} differ: {sorted(map(str, figures))}"]
        behind = [node.number for node in honest if not node.replica.is_synced]
        return [f"not synced: {behind}"] if behind else []

    # -- what was freed ------------------------------------------------------------------------------

    def respend(self) -> int:
        """New payments with the coins that ended transactions let go of; returns how many."""
        run = self._run
        first = run.honest[0]
        freed: dict[Outpoint, None] = {}
        for txid in run.checkers.votes.endings:
            for outpoint in run.book.entries[txid].tx.outpoints:
                coin = first.store.coin(outpoint)
                wanted = any(each not in run.checkers.votes.endings for each in run.book.spenders[outpoint])
                if coin is not None and kind(coin.state) == "Unspent" and not wanted:
                    freed[outpoint] = None
        count = run.wallets.respend(freed, run.honest)
        if count:
            run.tally.saw("freed coin spent again")
        return count

    # -- the last look -------------------------------------------------------------------------------

    def conclude(self) -> None:
        """All is decided: now the parts must add up."""
        run = self._run
        finals = [set(node.store.finalized(0, 10**6)) for node in run.honest]
        if any(each != finals[0] for each in finals):
            raise Broken(2, "I-4", f"the finals differ: {[len(each) for each in finals]}")
        told = set(run.checkers.ledgers.final)
        if told != finals[0]:
            raise Broken(2, "I-4", f"{len(told - finals[0])} finals were lost, {len(finals[0] - told)} never told")
        run.tally.count("final", len(finals[0]))
        run.checkers.chain.conclude()
        self._look_at_cancels(finals[0])
        for node in run.honest:
            self._recount(node)
            self._look_at_endings(node)
            run.checkers.watchers.conclude(node)
            for complaint in left_over(node):
                raise Broken(8, "L-7", f"{short(node.name)} keeps {complaint}")

    def _look_at_cancels(self, finals: set[str]) -> None:
        """What was cancelled, or signed twice, went one way or the other."""
        run = self._run
        for txid, entry in run.book.entries.items():
            if entry.cancelled and txid in finals:
                run.tally.saw("cancel too late")
            elif entry.cancelled and txid in run.checkers.chain.aborted:
                run.tally.saw("cancel aborted")
        for txid in finals:
            held = {node.store.transaction(txid).tx.signature for node in run.honest}
            if len(held) > 1:
                run.tally.saw("two signatures of one transaction")

    def _recount(self, node: Masternode) -> None:
        """The figures in memory are those of the coins on disk."""
        tallies: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for outpoint in self._run.book.outputs:
            coin = node.store.coin(outpoint)
            if coin is not None:
                tallies[kind(coin.state)][0] += 1
                tallies[kind(coin.state)][1] += coin.output.amount
                spent = isinstance(coin.state, SpentFinalized | Confirmed)
                if spent and holder(coin.state) not in self._run.book.entries:
                    raise Broken(3, "I-6", f"{outpoint} was spent by what nobody signed")
        figures = node.replica.manager.tallies.items()
        kept = {name: [tally.coins, tally.amount] for name, tally in figures if tally.coins}
        if kept != dict(tallies):
            raise Broken(3, "I-16", f"{short(node.name)} counts {kept}, its coins are {dict(tallies)}")

    def _look_at_endings(self, node: Masternode) -> None:
        """What a block aborted is known as aborted, and which block it was."""
        for txid, height in self._run.checkers.chain.aborted.items():
            ending, record = node.store.ending(txid), node.store.transaction(txid)
            if ending is None or ending.height != height or (record is not None and record.status != "aborted"):
                raise Broken(2, "I-9", f"{short(node.name)} does not know that block {height} aborted {short(txid)}")


def _is_final(node: Masternode, txid: str) -> bool:
    record = node.store.transaction(txid)
    return record is not None and record.status == "final"
