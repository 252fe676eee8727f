"""What waits for the replica, weighed: so that a step is bounded by its work, and the wait by what it holds.

Before it is verified it waits in the :class:`Inbox`, and then, no more than a step or two of it, as :class:`Ready`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import attrs

from timeproto import limits
from timeproto.consensus.effects import Cancel, Heard, Input, LinkDown, LinkUp, Submit
from timeproto.consensus.verifier import Known
from timeproto.model.block import Block, BlockVote, DecidedBlock, Verdict
from timeproto.model.certificate import FinalityProof
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch
from timeproto.wire import messages

Entry = tuple[Input, Known]

VOTES_PER_UNIT = 32
"""Votes, or txids, that weigh what one transaction does: in memory they take as much while they wait."""
COINS_PER_UNIT = 9
"""Inputs, outputs and signatures of one that weigh as much again, for the same reason."""
SIGNED_PER_UNIT = 4
"""Small things, signed each for itself (cancels, words about blocks), that weigh so much: by the checks they cost."""
CERTIFICATE, CERTIFYING_PER_UNIT = 4, 2
"""What a certificate weighs at least, and how many of its votes weigh one: their paths may be long."""

TURN = 32
"""What one sender has taken before the next one's turn: so that all are heard in one step where a few wait."""

STEPS_IN_ONE = 2
"""How many times a step's worth goes into one step at most, if it was verified while the last one was committed."""


def weight(entry: Input) -> int:
    """About how many transactions' worth of work an input is; at least 1.

    By whatever there is most of: work for the replica, signatures to check, or memory while it waits. So a unit is
    never more than about five signature checks, nor than about five kilobytes, whatever a liar makes of a message.
    """
    if isinstance(entry, Submit):
        return _transaction(entry.tx)
    if not isinstance(entry, Heard):
        return 1
    match entry.message:
        case messages.TransactionBroadcast():
            return _transaction(entry.message.tx)
        case VoteBatch():
            return 1 + _votes(entry.message) // VOTES_PER_UNIT
        case messages.Votes():
            batches = entry.message.batches
            votes = len(batches) + sum(map(_votes, batches)) // VOTES_PER_UNIT
            signed = (len(entry.message.cancels) + len(entry.message.block_votes)) // SIGNED_PER_UNIT
            return 1 + votes + signed + _certificates(entry.message.proofs)
        case messages.Transactions():
            return 1 + sum(map(_transaction, entry.message.transactions)) + _certificates(entry.message.proofs)
        case messages.FinalityProofs():
            return 1 + _certificates(entry.message.proofs)
        case messages.UTXOStateNotification():
            proof, inclusion = entry.message.proof, entry.message.inclusion
            signed = 0 if inclusion is None else len(inclusion.commit.signatures) // SIGNED_PER_UNIT
            return 1 + signed + (0 if proof is None else len(proof.votes) // CERTIFYING_PER_UNIT)
        case messages.BlockProposal():
            return 8 + _block(entry.message.block) + len(entry.message.polka)
        case messages.Blocks():
            return 1 + sum(map(_decided, entry.message.blocks))
        case messages.Finalized() | messages.GetVotes() | messages.GetTransactions():
            return max(8, 1 + len(entry.message.txids) // VOTES_PER_UNIT)
        case messages.GetBlocks() | messages.GetFinalized():
            return 8
    return 1


def checks(entry: Input) -> int:
    """How many signatures an input has, at most: those of certificates counted each."""
    if isinstance(entry, Submit):
        return _keys(entry.tx)
    if isinstance(entry, Cancel):
        return 1
    return _signatures(entry.message) if isinstance(entry, Heard) else 0


def _signatures(message: messages.AnyMessage) -> int:
    match message:
        case messages.TransactionBroadcast():
            return _keys(message.tx)
        case VoteBatch() | BlockVote() | messages.TransactionCancel():
            return 1
        case messages.Votes():
            alone = len(message.batches) + len(message.cancels) + len(message.block_votes)
            return alone + _proofs(message.proofs)
        case messages.Transactions():
            return sum([len(tx.signature) for tx in message.transactions]) // 64 + _proofs(message.proofs)
        case messages.FinalityProofs():
            return _proofs(message.proofs)
        case messages.UTXOStateNotification():
            return 0 if message.proof is None else len(message.proof.votes)
        case messages.BlockProposal():
            return 1 + len(message.polka) + _proofs(message.block.verdicts)
        case messages.Blocks():
            return sum(len(each.commit.signatures) + _proofs(each.block.verdicts) for each in message.blocks)
    return 0


def _keys(tx: Transaction) -> int:
    return len(tx.signature) // 64


def _proofs(certificates: Iterable[FinalityProof | Verdict]) -> int:
    return sum(len(certificate.votes) for certificate in certificates)


def _transaction(tx: Transaction) -> int:
    return 1 + (len(tx.inputs) + len(tx.outputs) + len(tx.signature) // 64) // COINS_PER_UNIT


def _certificates(certificates: Sequence[FinalityProof | Verdict]) -> int:
    if not certificates:
        return 0
    return sum(max(CERTIFICATE, len(certificate.votes) // CERTIFYING_PER_UNIT) for certificate in certificates)


def _block(block: Block) -> int:
    coinbase = _transaction(block.coinbase) - 1  # nothing at all if it is an honest one
    return coinbase + len(block.transactions) // VOTES_PER_UNIT + _certificates(block.verdicts)


def _decided(decided: DecidedBlock) -> int:
    return max(8, len(decided.commit.signatures) // SIGNED_PER_UNIT) + _block(decided.block)


def _votes(batch: VoteBatch) -> int:
    return len(batch.lock) + len(batch.commit) + len(batch.abort)


@attrs.define
class Counters:
    """What has passed through since the start."""

    steps: int = 0
    commits: int = 0
    inputs: int = 0
    dropped: int = 0
    proven: int = 0


@attrs.define
class _Queue:
    """What waits of one sender. ``credit`` is what its turn has left; below zero it took more than its turn."""

    entries: deque[tuple[Entry, int, int]] = attrs.field(factory=deque)
    weight: int = 0
    credit: int = 0


class Inbox:
    """Each sender's first in, first out, and the senders in turn: a flood stands before nobody's words but its own.

    A turn is a weight, not a number: whoever's last message was above it owes that to the others who wait. Wallets are
    one sender, and the node itself with its timers another. Wallets have room of their own, and of the masternodes none
    takes that of the others.

    So what waits is bounded in memory: ``limits.INBOX`` units of about five kilobytes (see :func:`weight`) of wallets,
    as much of all masternodes, a quarter of it of one; above that ``limits.INBOX_SHARE`` of each and its last message.
    What is taken is bounded in signature checks: ``limits.STEP_INPUTS`` units of about five, and its last message.
    """

    def __init__(self) -> None:
        self._queues: dict[str | None, _Queue] = {}
        self._turns: deque[_Queue] = deque()
        self._is_owed = False
        self.taken = 0
        """What was taken last, by weight."""
        self._count = self._weight = self._checks = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_small(self) -> bool:
        """True if all that waits is less than a step's worth, with few signatures."""
        return not self.is_a_step and self._checks <= limits.STEP_INPUTS

    @property
    def is_a_step(self) -> bool:
        """True if a step's worth waits, or more."""
        return self._weight >= limits.STEP_INPUTS

    @property
    def is_full(self) -> bool:
        """True if there is no room for what a wallet asks."""
        return self._of(None) >= limits.INBOX

    def has_room_for(self, sender: str) -> bool:
        """True if something more of the masternode ``sender`` may wait here."""
        waiting = self._of(sender)
        if waiting < limits.INBOX_SHARE:
            return True  # whatever others do
        return waiting < limits.INBOX // 4 and self._weight - self._of(None) < limits.INBOX

    def _of(self, sender: str | None) -> int:
        queue = self._queues.get(sender)
        return 0 if queue is None else queue.weight

    def append(self, entry: Input, known: Known) -> None:
        heavy, signed, sender = weight(entry), checks(entry), _sender(entry)
        queue = self._queues.get(sender)
        if queue is None:
            queue = self._queues[sender] = _Queue()
        if not queue.entries:
            self._turns.append(queue)
        queue.entries.append(((entry, known), heavy, signed))
        queue.weight += heavy
        self._count += 1
        self._weight += heavy
        self._checks += signed

    def take(self) -> list[Entry]:
        """The next step's worth: ``limits.STEP_INPUTS`` in weight, and always at least one."""
        taken: list[Entry] = []
        room = limits.STEP_INPUTS
        while self._turns and room > 0:
            queue = self._turns.popleft()
            entries, credit = queue.entries, min(queue.credit, 0) + TURN
            while entries and credit > 0 and room > 0:
                entry, heavy, signed = entries.popleft()
                taken.append(entry)
                credit -= heavy
                room -= heavy
                queue.weight -= heavy
                self._checks -= signed
            queue.credit = credit
            if credit < 0:
                self._is_owed = True
            if entries:
                self._turns.append(queue)
        self._count -= len(taken)
        self.taken = limits.STEP_INPUTS - room
        self._weight -= self.taken
        if self._is_owed and not self._turns:
            self._forgive()  # nobody waits for what is owed
        return taken

    def _forgive(self) -> None:
        self._is_owed = False
        for queue in self._queues.values():
            queue.credit = 0

    def clear(self) -> None:
        self._queues.clear()
        self._turns.clear()
        self._count = self._weight = self._checks = 0


class Ready:
    """What is verified and waits for its step, in the pieces in which it was taken from the inbox.

    Of small inputs a step takes ``limits.STEP_INPUTS`` by number, since what they cost together is less than their sum;
    of any not more than ``STEPS_IN_ONE`` times that by weight, however much was verified while the disk was slow.
    """

    def __init__(self) -> None:
        self._pieces: deque[tuple[list[Input], int]] = deque()
        self._count = self._weight = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_enough(self) -> bool:
        """True if nothing more need be verified before the next step."""
        return self._count >= limits.STEP_INPUTS or self._weight >= STEPS_IN_ONE * limits.STEP_INPUTS

    def append(self, inputs: list[Input], heavy: int) -> None:
        """``inputs`` were taken together, and weighed ``heavy``."""
        if inputs:
            self._pieces.append((inputs, heavy))
            self._count += len(inputs)
            self._weight += heavy

    def take(self) -> list[Input]:
        """The next step's inputs: one piece, if there is any, and those after it that fit."""
        taken: list[Input] = []
        room = STEPS_IN_ONE * limits.STEP_INPUTS
        while self._pieces:
            inputs, heavy = self._pieces[0]
            if taken and (heavy > room or len(taken) + len(inputs) > limits.STEP_INPUTS):
                break
            self._pieces.popleft()
            taken += inputs
            room -= heavy
            self._weight -= heavy
        self._count -= len(taken)
        return taken

    def clear(self) -> None:
        self._pieces.clear()
        self._count = self._weight = 0


def _sender(entry: Input) -> str | None:
    """Whose turn it is: None for all wallets, nobody's name for what the node itself has to do."""
    if isinstance(entry, Heard):
        return entry.sender
    if isinstance(entry, Submit | Cancel):
        return None
    return entry.key if isinstance(entry, LinkUp | LinkDown) else ""
