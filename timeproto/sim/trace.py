"""What happened in a run: a digest over all of it, and on request every line of it for people to read."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any

from timeproto.model.block import BlockVote
from timeproto.model.vote import VoteBatch
from timeproto.sim.events import Events
from timeproto.wire import messages

LAST = 400
"""Lines that are kept for the report of a violation."""


class Trace:
    """``digest`` is equal for two runs exactly when the same happened at the same times, to the byte."""

    def __init__(self, events: Events, *, keep: int = 0) -> None:
        """``keep``: how many of the last lines to keep; none are made if 0."""
        self.keeps = keep > 0
        self.lines: deque[str] = deque(maxlen=keep or 1)
        self._events = events
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    @property
    def now(self) -> int:
        """Virtual time."""
        return self._events.now

    def mark(self, what: bytes, mark: bytes) -> None:
        """Part of the digest, and no line: ``what`` happened now, with the contents of ``mark``."""
        self._hash.update(b"%d %s %s" % (self._events.now, what, mark))

    def note(self, text: str) -> None:
        """A line, and part of the digest."""
        self._hash.update(b"%d %s" % (self._events.now, text.encode("utf-8")))
        self.line(text)

    def line(self, text: str) -> None:
        if self.keeps:
            milliseconds = self._events.now / 1_000
            self.lines.append(f"{milliseconds:>12.3f} ms  {text}")


def short(txid: str | None) -> str:
    return "nothing" if txid is None else txid[:8]


def shorts(txids: Any) -> str:
    return " ".join(map(short, txids))


def describe(message: Any) -> str:
    """A message in a few words."""
    match message:
        case VoteBatch():
            kinds = ("lock", message.lock), ("commit", message.commit), ("abort", message.abort)
            said = ", ".join(f"{name} {shorts(txids)}" for name, txids in kinds if txids)
            return f"votes of {short(message.voter)} at {message.height}: {said}"
        case messages.Votes():
            said = "; ".join(map(describe, message.batches))
            about = "" if message.voter is None else f" about {short(message.voter)}{' …' if message.more else ''}"
            proofs = f", {len(message.proofs)} proofs" if message.proofs else ""
            return f"Votes{about}: {said or 'none'}{proofs}"
        case messages.Transactions():
            proofs = f" with {len(message.proofs)} proofs" if message.proofs else ""
            return f"transactions {shorts(tx.txid for tx in message.transactions)}{proofs}"
        case messages.TransactionBroadcast():
            return f"transaction {short(message.tx.txid)}"
        case messages.TransactionCancel():
            return f"cancel {short(message.txid)}"
        case messages.FinalityProofs():
            return f"proofs of {shorts(proof.txid for proof in message.proofs)}"
        case messages.GetTransactions():
            return f"asks for transactions {shorts(message.txids)}"
        case messages.GetVotes():
            return f"asks for votes {shorts(message.txids) or 'of ' + short(message.voter)}"
        case messages.GetFinalized() | messages.GetBlocks():
            return f"{type(message).__name__} since {message.since}"
        case messages.Finalized():
            return f"finals {shorts(message.txids) or 'none'}, next {message.next} of {message.head}"
        case messages.UTXOStateNotification():
            return f"hint of {message.notification.new_state} with{'' if message.proof else 'out'} proof"
        case BlockVote():
            valid = "" if message.valid_round is None else f", valid since {message.valid_round}"
            place = f"{message.height}/{message.round}"
            return f"{message.kind} of {short(message.voter)} at {place} for {short(message.block)}{valid}"
        case messages.BlockProposal():
            block = message.block
            verdicts = " ".join(f"{verdict.kind} {short(verdict.txid)}" for verdict in block.verdicts)
            return f"{describe(message.vote)}: [{shorts(block.transactions)}] {verdicts}"
        case messages.Blocks():
            heights = " ".join(str(each.block.header.height) for each in message.blocks)
            return f"blocks {heights or 'none'} of {message.head}"
    return type(message).__name__
