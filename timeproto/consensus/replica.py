"""The replica: the state machine of one masternode, and the only hub of its decisions.

``step(inputs, now)`` takes verified inputs and returns :class:`~timeproto.consensus.effects.Effects`; nothing in here
waits, calls back, or knows what time it is. The work is done by :mod:`~timeproto.consensus.finality` (two
rounds of votes), :mod:`~timeproto.consensus.contest` (abort votes and verdicts), :mod:`~timeproto.consensus.agreement`
(blocks) and :mod:`~timeproto.consensus.gossip` (what to ask of peers); the hub hands inputs on and collects the turn.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from timeproto.consensus import answers
from timeproto.consensus.agreement import Agreement
from timeproto.consensus.catch_up import FinalList
from timeproto.consensus.chain import first_tip
from timeproto.consensus.contest import Contest
from timeproto.consensus.effects import Cancel, Effects, Heard, Input, LinkDown, LinkUp, Submit, Tick, Turn, Wake
from timeproto.consensus.finality import Finality
from timeproto.consensus.gossip import Gossip
from timeproto.consensus.payments import Payments
from timeproto.consensus.utxo_state_manager import IllegalTransition, UTXOStateManager, founding_changes
from timeproto.model.block import BlockVote
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import ChainTip, Changes, Ledger
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch, VoteKind
from timeproto.wire import messages

_Question = messages.GetTransactions | messages.GetVotes | messages.GetBlocks | messages.GetFinalized
_Answer = messages.Transactions | messages.Votes | messages.Blocks | messages.Finalized


def found(ledger: Ledger, genesis: Genesis, log_start: int = 0) -> Changes | None:
    """What must be committed before a replica can run on ``ledger``: the coins of genesis, None if it has them.

    The transition log begins after the position ``log_start``: one that grows with the time lets no place in a log that
    was lost be taken for one in that which follows it."""
    if ledger.summary() is not None:
        return None
    return founding_changes(genesis.coins(), first_tip(genesis), log_start)


class Replica:
    """One masternode's memory of what is undecided, over a ledger of what is committed.

    After every :meth:`step` the effects' changes must be committed before the next step: the replica reads them
    back through the ledger.
    """

    def __init__(self, ledger: Ledger, genesis: Genesis, key: SigningKey) -> None:
        """``key`` must be one of ``genesis``'s masternodes; ``ledger`` founded (see :func:`found`)."""
        if key.public_hex not in genesis.masternode_set:
            raise ValueError("the key is not in the masternode set")
        summary = ledger.summary()
        if summary is None:
            raise ValueError("the ledger is empty: commit found(ledger, genesis) first")
        self._ledger = ledger
        self._finality = Finality(ledger, genesis, key, summary)
        self._finals = FinalList(ledger, summary.finalized)
        self._gossip = Gossip(self._finality)
        self._contest = Contest(self._finality)
        self._agreement = Agreement(self._finality, self._contest)

    # -- what the shell may ask ----------------------------------------------------------------------

    @property
    def manager(self) -> UTXOStateManager:
        return self._finality.manager

    @property
    def payments(self) -> Payments:
        return self._finality.payments

    @property
    def not_voting(self) -> str | None:
        """Why this replica casts no votes, in words; None while it votes."""
        return self._finality.not_voting

    @property
    def final_count(self) -> int:
        return self._finality.finalized

    @property
    def evidence_count(self) -> int:
        return self._finality.evidence

    @property
    def height(self) -> int:
        """The height of the last decided block."""
        return self._finality.height

    @property
    def is_synced(self) -> bool:
        """True if what the others have decided, and made final, is here as far as can be known."""
        return self._finality.mandate.is_met and not self._agreement.sync.is_behind

    @property
    def tip(self) -> ChainTip:
        """The last decided block."""
        return self._agreement.chain.tip

    @property
    def confirmed_height(self) -> int:
        """The height up to which all that blocks contain is marked Confirmed."""
        first = next(iter(self._finality.confirming.values()), None)
        return self.height if first is None else first.height - 1

    @property
    def commitment(self) -> str:
        """The digest of the chain's unspent coins after it."""
        return self._agreement.chain.commitment

    @property
    def unconfirmed(self) -> int:
        """How many final transactions are in no block yet."""
        return len(self._finality.unconfirmed)

    @property
    def contested(self) -> int:
        return len(self.payments.contested)

    def transaction(self, txid: str) -> Transaction | None:
        """The transaction if it is in memory: one that equals it needs no check of its signatures. The disk is not
        asked: almost every one is new, and to find that out there takes a tenth of the check, to read one a half."""
        payment = self.payments.get(txid)
        return self._finality.at_hand(txid) if payment is None else payment.tx

    def is_settled(self, batch: VoteBatch) -> bool:
        """True if the batch can change nothing here: all it votes for has just become final, or is on its way there
        with the lock certificate that the vote would be one too many for."""
        finality = self._finality
        is_another = batch.voter != finality.key.public_hex
        for kind, txids in batch.lists():
            may_be_spare = is_another and kind is VoteKind.LOCK
            for txid in txids:
                if txid not in finality.recent and not (may_be_spare and finality.needs_no_lock(txid)):
                    return False
        return True

    def news(self, message: messages.AnyMessage) -> messages.AnyMessage:
        """``message`` without the proofs of what has just become final here, and without blocks that are decided here:
        each costs a quorum of signature checks. Under load proofs come from everybody who was asked for votes a moment
        too early; and old blocks from a liar, without end."""
        if isinstance(message, messages.Votes | messages.Transactions | messages.FinalityProofs) and message.proofs:
            proofs = tuple(proof for proof in message.proofs if proof.txid not in self._finality.recent)
            if len(proofs) < len(message.proofs):
                return msgspec.structs.replace(message, proofs=proofs)
        elif isinstance(message, messages.Blocks):
            blocks = tuple(decided for decided in message.blocks if decided.block.header.height > self.height)
            if len(blocks) < len(message.blocks):
                return msgspec.structs.replace(message, blocks=blocks)
        return message

    def state_digest(self) -> str:
        """Equal on two replicas that know the same (see UTXOStateManager.state_digest)."""
        return self.manager.state_digest(self.payments.contenders())

    def halt(self, reason: str) -> None:
        """Cast no vote ever again in this life; everything else goes on."""
        self._finality.mandate.halt(reason)

    # -- the step ------------------------------------------------------------------------------------

    def step(self, inputs: Iterable[Input], now: int) -> Effects:
        """Everything that follows from ``inputs``, in their order. ``now`` (Unix ms) is written down, and
        compared with nothing but the time of a new block."""
        self._finals.extend(self._finality.turn.finalized)  # by the step before, and committed since
        turn = self._finality.turn = Turn(now)
        for entry in inputs:
            try:
                self._take(entry)
            except IllegalTransition as broken:
                self._finality.alarm(broken)
        self._finality.settle()
        self._agreement.conclude()
        self._finality.conclude()
        return self._conclude(turn)

    def _conclude(self, turn: Turn) -> Effects:
        effects, caught_up = turn.effects, self._gossip.take_changes()
        if caught_up or not (turn.is_idle and self.manager.is_idle):
            effects.changes = self._changes(turn, caught_up)
        if turn.relay:  # a transaction goes ahead of the votes for it
            pages = answers.pages(turn.relay, answers.transaction_size)
            relay = [(None, messages.Transactions(transactions=tuple(page))) for page in pages]
            effects.send = [*relay, *effects.send]
        return effects

    def _changes(self, turn: Turn, caught_up: dict[str, int]) -> Changes:
        finality = self._finality
        changes = self.manager.take_changes(
            finalized=finality.finalized, batches=finality.batches, evidence=finality.evidence
        )
        changes.transactions = turn.transactions
        changes.own_votes = turn.own_votes
        changes.batches = turn.batches
        changes.finalized = turn.finalized
        changes.evidence = turn.evidence
        changes.blocks, changes.tip = turn.blocks, turn.tip
        changes.endings = turn.endings
        changes.sign_state = turn.sign_state
        changes.caught_up = caught_up
        return changes

    def _take(self, entry: Input) -> None:
        match entry:
            case Heard():
                self._hear(entry.message, entry.sender)
            case Submit():
                self._finality.submit(entry.tx, entry.ticket)
            case Cancel():
                self._contest.cancel(entry.cancel, entry.ticket)
            case Wake():
                self._agreement.wake(entry)
            case LinkUp():
                self._gossip.link_up(entry.key)
                self._agreement.link_up(entry.key)
            case LinkDown():
                self._gossip.link_down(entry.key)
            case Tick():
                self._gossip.tick()
                for peer, question in self._gossip.take_owed().items():
                    self._answer(question, peer)
                self._contest.tick()
                self._agreement.tick(self._gossip.links)

    def _hear(self, message: messages.AnyMessage, sender: str) -> None:
        finality, gossip = self._finality, self._gossip
        match message:
            case VoteBatch():
                finality.count(message, sender)
            case BlockVote():
                self._agreement.hear_vote(message, sender)
            case messages.TransactionBroadcast():
                finality.hear_transaction(message.tx, sender)
            case messages.Transactions():
                finality.hear_proofs(message.proofs, sender)
                for tx in message.transactions:
                    finality.hear_transaction(tx, sender)
                if message.proofs:  # so that a whole page of parents and children is final before the next is asked
                    finality.settle()
                gossip.transactions_arrived(sender)
            case messages.FinalityProofs():
                finality.hear_proofs(message.proofs, sender)
            case messages.Votes():
                for batch in message.batches:
                    finality.count(batch, sender)
                finality.hear_proofs(message.proofs, sender)
                for cancel in message.cancels:
                    self._contest.hear_cancel(cancel)
                for vote in message.block_votes:
                    self._agreement.hear_vote(vote, sender)
                if message.voter == finality.key.public_hex and not message.more:
                    finality.vote_after(finality.mandate.vouched, sender)
            case messages.UTXOStateNotification():
                gossip.hear_hint(message, sender)
            case messages.Finalized():
                gossip.hear_finalized(message, sender)
            case messages.GetTransactions() | messages.GetVotes() | messages.GetBlocks() | messages.GetFinalized():
                self._answer(message, sender)
            case messages.TransactionCancel():
                self._contest.hear_cancel(message)
            case messages.BlockProposal():
                self._agreement.hear_proposal(message, sender)
            case messages.Blocks():
                self._agreement.sync.hear_blocks(message, sender)
                self._agreement.sync.vouch()
            case _:
                raise TypeError(f"{type(message).__name__} is not for a replica")

    def _answer(self, message: _Question, peer: str) -> None:
        room = self._gossip.room_for(peer)
        if room <= 0:
            if isinstance(message, messages.GetFinalized):
                self._gossip.owe(peer, message)
            return
        found: Iterable[_Answer]
        match message:
            case messages.GetFinalized():
                found = [self._finals.page(message)]
            case messages.GetTransactions():
                found = answers.transactions(message, self.payments, self._ledger, room)
            case messages.GetBlocks():
                found = [answers.blocks(message, self._ledger, self.height)]
            case messages.GetVotes():
                if message.voter is not None and not self._gossip.may_ask_about_a_voter(peer):
                    return  # asked again in no time: the answer on its way is good enough
                found = answers.votes(message, self.payments, self._ledger, self._agreement.votes_of, room)
        for answer in found:
            self._gossip.spend(peer, _size(answer))
            self._finality.turn.effects.send.append((peer, answer))


def _size(answer: _Answer) -> int:
    """At most how many bytes of JSON an answer takes."""
    return 67 * len(answer.txids) + 500 if isinstance(answer, messages.Finalized) else answers.size(answer)
