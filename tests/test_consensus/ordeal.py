"""A cluster that is watched at every step, with power cuts and liars: what must hold always is checked always.

The checks know the protocol, not the replica: they read what was sent, what was committed and what wallets were told. A
broken one raises :class:`Broken`, naming the invariant (shared numbering: I-1 … I-18 of the fault catalogue).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.cluster import Cluster, Node, key
from tests.cut_store import CutStore, PowerCut
from tests.test_consensus.liar import Liar
from timeproto.consensus.effects import Effects, Heard, Input
from timeproto.errors import Refusal
from timeproto.model.certificate import check_proof
from timeproto.model.ledger import Changes, Store
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import UNSPENT, Confirmed, Locked, SpentFinalized, UTXOState, holder, kind
from timeproto.model.vote import VoteBatch, VoteKind
from timeproto.storage.memory import MemoryStore
from timeproto.wire import messages

LEGAL = {
    (None, "Unspent"),
    ("Unspent", "Locked"),
    ("Unspent", "SpentFinalized"),
    ("Locked", "SpentPending"),
    ("Locked", "SpentFinalized"),
    ("SpentPending", "SpentFinalized"),
}
"""Every step a coin may take while there are no blocks (protocol section 3)."""


class Broken(AssertionError):
    """Something that must always hold did not."""


class WatchedStore:
    """A store that shows each change set to the checks as soon as it is durable."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.watch: Callable[[Changes], None] = lambda changes: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def commit(self, changes: Changes) -> None:
        self.inner.commit(changes)
        self.watch(changes)


class Ordeal(Cluster):
    """``liars`` of the masternodes, the last ones, are Byzantine; the others are replicas on stores that can be cut."""

    def __init__(self, n: int, seed: int, *, liars: int = 0, **more: Any) -> None:
        self.liars = {key(number + 1).public_hex for number in range(n - liars, n)}
        self.crashes = 0
        self.transactions: dict[str, Transaction] = {}
        self._locked_for: dict[tuple[str, Outpoint], str] = {}
        self._vote_in: dict[tuple[str, VoteKind, str], str] = {}
        self._genuine: set[str] = set()
        self._verified: dict[str, VoteBatch] = {}
        self._lock_votes: dict[str, dict[str, set[str]]] = {}
        self._spent_by: dict[Outpoint, str] = {}
        self._fees: dict[str, int] = {}
        self._positions: dict[str, int] = {}
        self._states: dict[tuple[str, Outpoint], UTXOState] = {}
        super().__init__(n, seed, store=lambda: CutStore(WatchedStore()), **more)  # type: ignore[arg-type,return-value]

    def make_node(self, number: int, store: Store) -> Node:
        if key(number + 1).public_hex in self.liars:
            return Liar(self.genesis, key(number + 1), self.random, self.transactions)
        node = Node(self.genesis, key(number + 1), store)
        node.store.inner.watch = partial(self._check_changes, node)  # type: ignore[attr-defined]
        self._lock_votes[node.key] = {}
        return node

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.key not in self.liars]

    # -- driving -------------------------------------------------------------------------------------

    def payment(self, wallet: int, coin: int, to: int, amount: int = 10**8, **more: Any) -> Transaction:
        return self.register(super().payment(wallet, coin, to, amount, **more))

    def register(self, tx: Transaction) -> Transaction:
        """Every transaction of a run is known to the checks, and to the liars."""
        return self.transactions.setdefault(tx.txid, tx)

    def cut_power(self, number: int, after: int = 1, *, before: bool = True) -> None:
        """The node's power fails at its ``after``-th commit from now: before it, or after it became durable."""
        store: Any = self.nodes[number].store
        store.cut_at(store.commits + after, "before" if before else "after")

    def restart(self, number: int, store: Store | None = None) -> Node:
        old: Any = self.nodes[number].store
        return super().restart(number, store or CutStore(old.inner))  # type: ignore[arg-type]

    def restart_all(self) -> None:
        for number, node in enumerate(self.nodes):
            if not node.alive:
                self.restart(number)

    def act(self, node: Node, inputs: list[Input]) -> Effects:
        if node.key in self.liars:
            effects = super().act(node, inputs)
            self._genuine |= {batch.signature for batch in node.signed}  # type: ignore[attr-defined]
            return effects
        if not node.alive:
            return Effects()
        for entry in inputs:
            if isinstance(entry, Heard):
                self._note_lock_votes(node, entry.message)
        try:
            effects = super().act(node, inputs)
        except PowerCut as cut:
            leaked = getattr(cut, "leaked", Effects())  # what had left by then: only a mutant lets anything
            for _, message in leaked.send:
                self.post(node.key, self.nodes[0].key, message)
            self.crashes += 1
            self.kill(self.nodes.index(node))
            return Effects()
        for _, answer in effects.replies:
            if isinstance(answer, messages.TransactionAccepted) and node.store.transaction(answer.txid) is None:
                raise Broken("I-18: a wallet was told accepted, and nothing is kept")
        return effects

    def post(self, sender: str, to: str, message: Any) -> None:
        if sender not in self.liars:
            for batch in _batches(message):
                self._check_batch(batch, sender, fresh=batch is message)
        super().post(sender, to, message)

    # -- what is said --------------------------------------------------------------------------------

    def _note_lock_votes(self, node: Node, message: Any) -> None:
        for batch in _batches(message):
            if batch.signature in self._genuine:
                for txid in batch.lock:
                    self._lock_votes[node.key].setdefault(txid, set()).add(batch.voter)

    def _check_batch(self, batch: VoteBatch, sender: str, *, fresh: bool) -> None:
        if batch.voter in self.liars:
            return
        if self._verified.get(batch.signature) != batch:
            if not batch.verify(self.genesis.hash) or batch.set != self.genesis.masternode_set.hash:
                raise Broken(f"I-14: an honest masternode sent a batch that is not signed by {batch.voter[:8]}")
            self._verified[batch.signature] = batch
            self._genuine.add(batch.signature)
        for kind_, txid in batch.votes():
            if self._vote_in.setdefault((batch.voter, kind_, txid), batch.signature) != batch.signature:
                raise Broken(f"I-2: {batch.voter[:8]} signed its {kind_.name} vote for {txid[:8]} twice")
        for txid in batch.lock:
            for outpoint in self.transactions[txid].outpoints:
                if self._locked_for.setdefault((batch.voter, outpoint), txid) != txid:
                    raise Broken(f"I-2: {batch.voter[:8]} lock-voted two transactions for {outpoint}")
        if fresh and sender == batch.voter:
            self._check_certificates(batch)
            self._check_durable(batch)

    def _check_certificates(self, batch: VoteBatch) -> None:
        """A commit vote follows from a lock certificate that the voter can have held."""
        for txid in batch.commit:
            voters = set(self._lock_votes[batch.voter].get(txid, ()))
            if self._vote_in.get((batch.voter, VoteKind.LOCK, txid)) is not None:
                voters.add(batch.voter)
            if len(voters) < self.genesis.masternode_set.quorum:
                raise Broken(f"I-5: {batch.voter[:8]} commit-voted {txid[:8]} on {len(voters)} lock votes")

    def _check_durable(self, batch: VoteBatch) -> None:
        """I-3: before it is on the wire a vote can be read back, the very batch."""
        store = self.by_key[batch.voter].store
        for kind_, txid in batch.votes():
            own = store.own_votes(txid)
            number = None if own is None else getattr(own, kind_.name.lower())
            if number is None or store.batch(number) != batch:
                raise Broken(f"I-3: {batch.voter[:8]} sent a {kind_.name} vote that it did not keep")

    # -- what is committed ---------------------------------------------------------------------------

    def _check_changes(self, node: Node, changes: Changes) -> None:
        locking: dict[str, set[Outpoint]] = {}
        for step in changes.transitions:
            self._check_transition(node, step.outpoint, step.position, step.old_state, step.new_state)
            if isinstance(step.new_state, Locked):
                locking.setdefault(step.txid, set()).add(step.outpoint)
        for txid, outpoints in locking.items():
            if outpoints != set(self.transactions[txid].outpoints):
                raise Broken(f"I-8: {node.key[:8]} locked a part of {txid[:8]}")
        for txid in changes.finalized:
            self._check_final(node, txid)
        alive = sum(tally.amount for name, tally in changes.summary.tallies.items()
                    if name not in ("SpentFinalized", "Confirmed"))
        if alive + self._fees.get(node.key, 0) != self.genesis.supply:
            raise Broken(f"I-7: {node.key[:8]} holds {alive} and took fees of {self._fees.get(node.key, 0)}")
        for evidence in changes.evidence:
            if evidence.voter not in self.liars:
                raise Broken(f"I-13: evidence against {evidence.voter[:8]}, who is honest")

    def _check_transition(
        self, node: Node, outpoint: Outpoint, position: int, old: UTXOState | None, new: UTXOState
    ) -> None:
        if position != self._positions.get(node.key, 0) + 1:
            raise Broken(f"I-10: {node.key[:8]} logged position {position} out of order")
        self._positions[node.key] = position
        founded = UNSPENT if outpoint.txid == self.genesis.hash else None
        known = self._states.get((node.key, outpoint), founded)
        if old != known:
            raise Broken(f"I-10: {node.key[:8]} moved {outpoint} from {old}, and it was {known}")
        names = (None if old is None else kind(old), kind(new))
        if names not in LEGAL:
            raise Broken(f"I-9, I-10: {node.key[:8]} moved {outpoint} {names}")
        if isinstance(old, Locked) and not isinstance(new, SpentFinalized) and holder(new) != old.txid:
            raise Broken(f"I-9: {node.key[:8]} let go of the lock on {outpoint}")
        self._states[node.key, outpoint] = new

    def _check_final(self, node: Node, txid: str) -> None:
        record = node.store.transaction(txid)
        if record is None or record.status != "final" or record.proof is None:
            raise Broken(f"I-3: {node.key[:8]} calls {txid[:8]} final, and does not keep that")
        try:
            check_proof(record.proof, self.genesis.masternode_set, self.genesis.hash)
        except Refusal as refusal:
            raise Broken(f"I-5: {refusal}") from None
        for outpoint in record.tx.outpoints:
            if self._spent_by.setdefault(outpoint, txid) != txid:
                raise Broken(f"I-1: {outpoint} is spent by two final transactions")
        if any(vote.voter not in self.genesis.masternode_set for vote in record.proof.votes):
            raise Broken(f"I-5: a stranger in the proof of {txid[:8]}")
        self._fees[node.key] = self._fees.get(node.key, 0) + record.tx.fee

    # -- at the end ----------------------------------------------------------------------------------

    def recover(self, ticks: int | None = None) -> None:
        """The faults end: all links whole, everybody up, time passes."""
        for node in self.honest:
            store: Any = node.store
            store.cut_at(0, "before")
        self.heal()
        self.lose = 0.0
        self.restart_all()
        self.settle(3 * len(self.nodes) if ticks is None else ticks)

    def conclude(self, accepted: list[Transaction]) -> None:
        """After :meth:`recover`: what was accepted and is uncontested is final everywhere, and all agree."""
        finals = [set(node.store.finalized(0, 10**6)) for node in self.honest]
        if any(each != finals[0] for each in finals):
            raise Broken(f"I-4: the finals differ: {[len(each) for each in finals]}")
        for tx in accepted:
            if tx.txid not in finals[0]:
                raise Broken(f"L-1: {tx.txid[:8]} was accepted, nobody contests it, and it is not final")
        for node in self.honest:
            if node.replica.not_voting is not None:
                raise Broken(f"{node.key[:8]} does not vote: {node.replica.not_voting}")
            self._recount(node)
        plain = {node.replica.manager.state_digest(()) for node in self.honest}
        if len(plain) != 1 or (not self.liars and len(self.digests()) != 1):
            raise Broken("I-11: the digests differ")

    def _recount(self, node: Node) -> None:
        """I-16: the figures in memory are those of the coins on disk."""
        tallies: dict[str, list[int]] = {}
        for outpoint in self._every_outpoint():
            coin = node.store.coin(outpoint)
            if coin is not None:
                tally = tallies.setdefault(kind(coin.state), [0, 0])
                tally[0] += 1
                tally[1] += coin.output.amount
                txid = holder(coin.state)
                if isinstance(coin.state, SpentFinalized | Confirmed) and txid not in self.transactions:
                    raise Broken(f"I-6: {outpoint} was spent by what nobody sent")
        figures = node.replica.manager.tallies.items()
        kept = {name: [tally.coins, tally.amount] for name, tally in figures if tally.coins}
        if kept != tallies:
            raise Broken(f"I-16: {node.key[:8]} counts {kept}, its coins are {tallies}")

    def _every_outpoint(self) -> Iterator[Outpoint]:
        yield from (outpoint for outpoint, _ in self.genesis.coins())
        for tx in self.transactions.values():
            yield from (tx.output_outpoint(vout) for vout in range(len(tx.outputs)))

    def digests(self) -> set[str]:
        return {node.replica.state_digest() for node in self.honest if node.alive}


def _batches(message: Any) -> list[VoteBatch]:
    if isinstance(message, VoteBatch):
        return [message]
    return list(message.batches) if isinstance(message, messages.Votes) else []
