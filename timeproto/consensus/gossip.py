"""What a replica asks its peers and tells them: hand over, catch up, fetch what is late (protocol §4, §9).

Nothing here decides about a coin. Whatever arrives goes through :class:`~timeproto.consensus.finality.Finality`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

from timeproto import limits
from timeproto.consensus import answers, own_votes
from timeproto.consensus.catch_up import CatchUp
from timeproto.consensus.finality import Finality
from timeproto.consensus.payments import JUDGED, Payment, Standing
from timeproto.consensus.refusals import unknown_input
from timeproto.model.utxo_state import from_wire, holder
from timeproto.model.vote import LOCK
from timeproto.wire import messages

T = TypeVar("T")

UNSETTLED = 4
"""One part in so many of what is asked about at once is for what nobody honest need have spoken of, if there is any."""


class Gossip:
    """The masternodes that can be reached, and where this replica stands with each."""

    def __init__(self, finality: Finality) -> None:
        self._finality = finality
        self._catch_up = CatchUp(finality.ledger.caught_up())
        self._links: dict[str, None] = {}
        self._new: set[str] = set()
        self._told_of_voters: set[str] = set()
        self._spent: dict[str, int] = {}
        self._owed: dict[str, messages.GetFinalized] = {}

    def take_changes(self) -> dict[str, int]:
        """The catch-up positions that moved in this step, to be committed."""
        return self._catch_up.take_changes()

    # -- links ---------------------------------------------------------------------------------------

    def link_up(self, peer: str) -> None:
        """A link (again): hand over what this replica voted, and ask what it missed."""
        finality = self._finality
        self._links[peer] = None
        self._new.add(peer)
        self._told_of_voters.discard(peer)
        self._ask_to_vouch(peer)
        self._hand_over(finality.payments, peer)
        self._ask_finalized(peer)

    def _hand_over(self, payments: Iterable[Payment], peer: str) -> None:
        """This replica's votes for undecided payments, in the batches that carried them first; and owners' wishes."""
        payments = list(payments)
        for page in answers.pages(own_votes.batches(self._finality, payments), answers.batch_size):
            self._send(peer, messages.Votes(batches=tuple(page)))
        cancels = [payment.cancel for payment in payments if payment.cancel is not None]
        for start in range(0, len(cancels), limits.FETCH):
            self._send(peer, messages.Votes(cancels=tuple(cancels[start : start + limits.FETCH])))

    @property
    def links(self) -> list[str]:
        """The masternodes that can be reached, in order of key."""
        return sorted(self._links)

    def link_down(self, peer: str) -> None:
        self._links.pop(peer, None)
        self._new.discard(peer)
        self._owed.pop(peer, None)
        self._catch_up.forget(peer)

    def may_ask_about_a_voter(self, peer: str) -> bool:
        """True once for each link and tick: the answer takes a look at everything that is undecided."""
        before = len(self._told_of_voters)
        self._told_of_voters.add(peer)
        return len(self._told_of_voters) > before

    def room_for(self, peer: str) -> int:
        """How many bytes of answers ``peer`` may still be sent in this tick: none makes this node answer for ever, or
        more than can wait for it. What is left out is asked for again."""
        return limits.ANSWER - self._spent.get(peer, 0)

    def owe(self, peer: str, question: messages.GetFinalized) -> None:
        """It is answered in the next tick: who catches up asks for one page after the other, and would wait long."""
        if peer in self._links:
            self._owed[peer] = question

    def take_owed(self) -> dict[str, messages.GetFinalized]:
        owed, self._owed = self._owed, {}
        return owed

    def spend(self, peer: str, size: int) -> None:
        self._spent[peer] = self._spent.get(peer, 0) + size

    # -- what peers tell -----------------------------------------------------------------------------

    def hear_hint(self, message: messages.UTXOStateNotification, sender: str) -> None:
        """A peer's word about a coin changes nothing: its proof is counted, or its transaction fetched."""
        if message.proof is not None:
            self._finality.hear_proof(message.proof, sender)
            return
        txid = holder(from_wire(message.notification.new_state))
        if txid is not None:
            self._finality.spoken_of(txid, sender, sender, is_wanted=True)

    def hear_finalized(self, message: messages.Finalized, sender: str) -> None:
        """A page of a peer's list of finals: fetch what is not final here, or move on."""
        if not self._catch_up.fits(sender, message):
            return
        finality = self._finality
        unknown = [txid for txid in finality.recent.others(message.txids) if not finality.is_final(txid)]
        known = message.txids.index(unknown[0]) if unknown else len(message.txids)
        if self._catch_up.advance(sender, message, known):
            finality.vote_after(finality.mandate.level, sender)
        if unknown:
            finality.ask_for([txid for txid in unknown if not self._is_on_its_way(txid, sender)], sender)
        elif message.next < message.head:
            self._ask_finalized(sender)
        if message.next == message.head:
            self._new.discard(sender)

    def _is_on_its_way(self, txid: str, peer: str) -> bool:
        """True if the votes for a payment are due: under load each peer is ahead of this replica with some hundreds,
        and to fetch and check all their proofs, time and again, would keep it behind. Not while it catches up, nor for
        what became final with ``peer`` before the link: votes for that were lost, and nobody casts or repeats them."""
        if self._finality.not_voting is not None or peer in self._new:
            return False
        payment = self._finality.payments.get(txid)
        return payment is not None and not self._is_late(payment)

    def transactions_arrived(self, sender: str) -> None:
        """If they were fetched to catch up with ``sender``, go on where that stopped; not for anything less."""
        awaited = self._catch_up.awaited(sender)
        if awaited is not None and self._finality.is_final(awaited):
            self._catch_up.forget(sender)
            self._ask_finalized(sender)

    # -- time ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Exchanges what is late here with one peer, in turn; lets go of what waited too long."""
        finality = self._finality
        finality.tick += 1
        if not finality.mandate.is_met:
            own_votes.tick(finality)
        self._told_of_voters.clear()
        self._spent.clear()
        self._let_go()
        links = self.links
        for peer in links:
            self._ask_to_vouch(peer)
        if links:
            self._exchange_late(links[finality.tick % len(links)])

    def _ask_to_vouch(self, peer: str) -> None:
        """Asks what ``peer`` holds of this replica's votes, until this replica knows enough to vote."""
        finality = self._finality
        if finality.not_voting is not None and not finality.mandate.has_vouched(peer):
            self._send(peer, messages.GetVotes(voter=finality.key.public_hex))

    def _exchange_late(self, peer: str) -> None:
        finality = self._finality
        late: dict[str, Payment] = {}
        absent: dict[str, list[str]] = {peer: []}
        for some, room in self._late():
            late.update((payment.txid, payment) for payment in some)
            unseen = [payment for payment in some if payment.tx is None]
            for payment in unseen:
                absent.setdefault(self._who_has(payment) or peer, []).append(payment.txid)
            children = [payment for payment in some if payment.missing]
            for child in children:  # whoever made up five hundred parents has as many asked for as anybody
                parents = self._in_turn(list(child.missing), max(1, (room - len(unseen)) // len(children)))
                known = ((txid, finality.payments.get(txid)) for txid in parents)
                absent[peer] += [txid for txid, parent in known if parent is None or parent.tx is None]
        for each, txids in absent.items():
            finality.ask_for(txids, each)
        if late:
            self._send(peer, messages.GetVotes(txids=tuple(late)))
            self._hand_over(late.values(), peer)  # the peer may never have heard of them
        self._catch_up.forget(peer)
        self._ask_finalized(peer)

    def _late(self) -> Iterator[tuple[list[Payment], int]]:
        """Which late payments are asked about now, ``limits.FETCH`` at most, in lists with the room that each has.

        First what is valid here, or somebody honest spoke of. Then the others, by who spoke of them or brought them,
        each as many: a liar that speaks of ten thousand which do not exist has its own waiting.
        """
        payments, room = self._finality.payments, limits.FETCH
        unsettled = payments.unsettled()
        most = room - min(sum(map(len, unsettled)), max(1, room // UNSETTLED))
        settled = self._in_turn([each for each in payments if self._is_settled(each) and self._is_late(each)], most)
        yield settled, most
        room -= len(settled)
        queues = self._in_turn(unsettled, room)
        for queue in queues:
            share = room // len(queues)
            found = map(payments.get, self._in_turn(queue, share))
            yield [each for each in found if each is not None and self._is_late(each)], share

    def _is_settled(self, payment: Payment) -> bool:
        """True if it costs something that it is here, or if f + 1 spoke of it."""
        if payment.standing in JUDGED or payment.proof is not None:
            return True
        spoken = len(payment.early_voters) if payment.tx is None else payment.votes.count(LOCK)
        return spoken > self._finality.masternodes.faulty

    def _in_turn(self, items: list[T], room: int) -> list[T]:
        """As many of ``items`` as there is room for, the next when all peers had these, so that none which stays keeps
        another from its turn; and each comes first one day, since an answer may end early."""
        if not items or room < 1:
            return []
        step = max(1, min(room, len(items)) - 1)
        while math.gcd(step, len(items)) > 1:
            step -= 1
        start = self._finality.tick // max(1, len(self._links)) * step % len(items)
        return (items[start:] + items[:start])[:room]

    def _is_late(self, payment: Payment) -> bool:
        """Sooner if something is missing that makes it a payment: that may be nowhere else on its way. And sooner if it
        is contested: before an abort vote, what others know of it."""
        is_urgent = payment.tx is None or payment.missing or payment.contested is not None
        patience = limits.TICK if is_urgent else limits.LATE
        return (self._finality.tick - payment.born) * limits.TICK > patience

    def _who_has(self, payment: Payment) -> str | None:
        """Somebody linked who spoke of it, each in turn: it may be that one honest masternode alone has it."""
        speakers = sorted(payment.early_voters.intersection(self._links))
        return speakers[self._finality.tick % len(speakers)] if speakers else None

    def _let_go(self) -> None:
        finality = self._finality
        for payment in finality.payments:
            age = (finality.tick - payment.born) * limits.TICK
            if payment.standing is Standing.WAITING and payment.tx is not None:
                refusal = unknown_input(payment.tx, finality.manager)
                if payment.tickets and age > limits.ORPHAN_WAIT_WALLET:
                    finality.answer_all(payment, refusal)
                if age > (limits.ORPHAN_WAIT_WALLET if payment.source is None else limits.ORPHAN_WAIT_PEER):
                    finality.give_up(payment, refusal)
            elif payment.standing is Standing.UNSEEN and age > limits.EARLY_WAIT:
                finality.payments.drop(payment)

    def _ask_finalized(self, peer: str) -> None:
        self._send(peer, messages.GetFinalized(since=self._catch_up.position(peer)))

    def _send(self, peer: str, message: messages.AnyMessage) -> None:
        self._finality.turn.effects.send.append((peer, message))
