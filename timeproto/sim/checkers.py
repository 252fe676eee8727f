"""The checkers together: they are shown whatever a masternode keeps, sends or says, and raise at the first breach."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from timeproto.consensus.effects import Effects
from timeproto.model.ledger import BlockEvidence, Changes
from timeproto.model.vote import VoteBatch, VoteKind
from timeproto.sim.chain_checks import ChainChecks
from timeproto.sim.ledger_checks import LedgerChecks
from timeproto.sim.liar import Liar
from timeproto.sim.masternode import Masternode, Moment
from timeproto.sim.promises import Broken
from timeproto.sim.round_checks import RoundChecks
from timeproto.sim.scene import Scene
from timeproto.sim.setting import address
from timeproto.sim.trace import describe, short, shorts
from timeproto.sim.vote_checks import VoteChecks
from timeproto.sim.wallets import Wallets
from timeproto.sim.watchers import Watchers
from timeproto.wire import messages


class Checkers:
    """Watches every masternode; what a faulty one does is no breach. ``final_at`` says when a transaction became final
    where, by txid and number."""

    def __init__(self, scene: Scene, wallets: Wallets, latest: Callable[[], int]) -> None:
        """``latest``: what the fastest clock of an honest masternode has shown, in Unix ms."""
        self.votes = VoteChecks(scene)
        self.rounds = RoundChecks(scene)
        self.chain = ChainChecks(scene, self.votes, latest)
        self.ledgers = LedgerChecks(scene, self.votes, self.chain)
        coins = [(outpoint, output.address) for outpoint, output in scene.genesis.coins()]
        self.watchers = Watchers(tuple(address(key) for key in wallets.keys[:4]), coins)
        self.final_at: dict[str, dict[int, int]] = {}
        self._faulty, self._trace, self._tally = scene.faulty, scene.trace, scene.tally
        self._wallets = wallets

    def started(self, node: Masternode) -> None:
        self._trace.note(f"{node.number} starts")
        if node.name not in self._faulty:
            self.watchers.started(node)

    def committed(self, node: Masternode, changes: Changes) -> None:
        summary = changes.summary
        figures = summary.position, summary.finalized, summary.batches, summary.digest % 2**64
        self._trace.mark(b"%d=" % node.number, b"%d %d %d %d" % figures)
        if self._trace.keeps:
            self._tell_changes(node, changes)
        for txid in changes.finalized:
            self.final_at.setdefault(txid, {})[node.number] = self._trace.now
        self._tally.count("commits")
        if node.name not in self._faulty:
            self.rounds.kept(node, changes.sign_state)
            self.ledgers.committed(node, changes)
            self._notice(node, changes)

    def _notice(self, node: Masternode, changes: Changes) -> None:
        for txid in changes.endings:
            self._wallets.told_ended(node, txid, self.votes.endings)
        for evidence in changes.evidence:
            self._tally.saw("block evidence" if isinstance(evidence, BlockEvidence) else "lock evidence")
        if any(ending.by is not None for ending in changes.endings.values()):
            self._tally.saw("ended by a rival's block")
        if changes.blocks and changes.blocks[-1].block.header.height < self.chain.height:
            self._tally.saw("caught up by blocks")
        for txid in changes.finalized:
            if changes.transactions[txid].kept is None:
                self._tally.saw("final by a block")

    def released(self, node: Masternode, effects: Effects) -> None:
        if node.name in self._faulty:
            if effects.identity_conflict is not None:
                self._tally.saw("identity conflict")
            return
        if effects.alarm is not None:
            raise Broken(1, "I-13", f"{short(node.name)} says that the assumption is broken: {effects.alarm}")
        if effects.identity_conflict is not None:
            raise Broken(4, "I-2", f"{short(node.name)} does not know itself: {effects.identity_conflict}")
        self.watchers.released(node, effects)
        for name, refusal in effects.blame:
            if name not in self._faulty:
                raise Broken(4, "I-13", f"{short(node.name)} blames {short(name)}, who is honest: {refusal}")

    def sent(self, node: Masternode, message: Any) -> None:
        self._tally.count("messages")
        if node.name not in self._faulty:
            self.votes.sent(node, message)
            self.rounds.sent(node, message)

    def settled(self, node: Masternode, batch: VoteBatch) -> None:
        self._tally.saw("late vote after final")

    def shown(self, node: Masternode, message: messages.Transactions) -> None:
        """Nothing is checked here, only noticed: what order of arrival came up."""
        for tx in message.transactions:
            payment = node.replica.payments.get(tx.txid)
            if payment is not None and payment.tx is None:
                kinds = VoteKind.LOCK, VoteKind.COMMIT
                if payment.proof is not None or any(map(payment.votes.has_quorum, kinds)):
                    self._tally.saw("certificate before transaction")

    def answered(self, node: Masternode, ticket: Any, answer: Any) -> None:
        self._wallets.answered(ticket, answer)
        is_accepted = isinstance(answer, messages.TransactionAccepted) and node.name not in self._faulty
        if is_accepted and node.store.transaction(answer.txid) is None:
            raise Broken(2, "I-18", f"{short(node.name)} accepted {short(answer.txid)} and does not keep it")

    def died(self, node: Masternode, effects: Effects | None, moment: Moment | None) -> None:
        self._trace.note(f"{node.number} dies {'' if moment is None else moment.name.lower().replace('_', ' ')}")
        self._tally.count("deaths")
        if effects is not None and effects.changes is not None and node.name not in self._faulty:
            voted = bool(effects.changes.batches)
            if voted and moment is Moment.BEFORE_COMMIT:
                self._tally.saw("crash between vote and commit")
            if voted and moment is Moment.AFTER_COMMIT:
                self._tally.saw("crash between commit and send")
            if effects.changes.finalized:
                self._tally.saw("crash between quorum and proof")
        if node.replica.confirmed_height < node.replica.height:
            self._tally.saw("crash while confirming")

    def failed(self, node: Masternode, error: Exception) -> None:
        if isinstance(node, Liar):
            node.kill()
            return
        where = "".join(traceback.format_exception(error)[-3:]).strip()
        raise Broken(0, "L-8", f"{short(node.name)} failed: {where}") from error

    def _tell_changes(self, node: Masternode, changes: Changes) -> None:
        for step in changes.transitions:
            old = "created" if step.old_state is None else type(step.old_state).__name__
            coin = f"{short(step.outpoint.txid)}:{step.outpoint.vout}"
            self._trace.line(f"{node.number}    {coin} {old} → {type(step.new_state).__name__} by {short(step.txid)}")
        for txid in changes.finalized:
            self._trace.line(f"{node.number}    {short(txid)} is final")
        for decided in changes.blocks:
            block, commit = decided.block, decided.commit
            verdicts = " ".join(f"{verdict.kind} {short(verdict.txid)}" for verdict in block.verdicts)
            self._trace.line(
                f"{node.number}    block {commit.height} is {short(commit.block)}, decided in round {commit.round}:"
                f" [{shorts(block.transactions)}] {verdicts}"
            )
        for batch in changes.batches.values():
            self._trace.line(f"{node.number}    keeps {describe(batch)}")
