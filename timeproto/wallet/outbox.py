"""Payments on their way: sent again until they are decided, asked after, ended by a proof or a last word alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import InclusionProof
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import Confirmed, SpentFinalized, Unspent, UTXOState, from_wire, holder, kind
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.belief import Aborted, Belief, Lie, Proof
from timeproto.wallet.confirming import Confirming
from timeproto.wallet.payment import Payment
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wallet.refusals import UNSURE, final_word, require_frame
from timeproto.wallet.turns import Once
from timeproto.wallet.undecided import Undecided
from timeproto.wire import messages

if TYPE_CHECKING:  # a client makes itself an outbox
    from timeproto.wallet.client import WalletClient

HANDED_ON = 100
"""Payments that another node is given at a time."""

ASKED = 100
"""Payments whose proof is asked for at a time."""

REFUSED = 1_000
"""Payments that a node's refusal has ended, of which it is still noted if they turn out to be final."""


class Outbox:
    """The undecided payments of one client, over whatever connection it has."""

    def __init__(self, client: WalletClient) -> None:
        self._client = client
        self._belief = client.belief
        self._payments = Undecided()
        self._once = Once(client.run)
        self.confirming = Confirming(client, self, self._once)
        self._refused: dict[Payment, None] = {}
        self._cancels: dict[str, messages.TransactionCancel] = {}

    @property
    def now(self) -> float:
        return self._client.seconds()

    def get(self, txid: str) -> Payment | None:
        return self._payments.get(txid)

    def close(self, why: Exception) -> list[Callable[[], None]]:
        """Nothing will be heard any more: what is returned tells whoever waits."""
        self._cancels.clear()
        tell: list[Callable[[], None]] = [partial(payment.failed, why) for payment in self._payments.clear()]
        return tell + self.confirming.close(why)

    # -- sending -------------------------------------------------------------------------------------

    def submit(self, tx: Transaction, *, again: bool = False) -> Payment:
        """Sends a signed transaction, and again until it is decided. The same one twice is one payment, until a block
        contains it or it fails."""
        if tx.txid != tx.computed_txid:  # what is proven of its name says nothing of what it holds
            forged, why = Payment(tx, self.now), "the txid is not the hash of the transaction"
            forged.failed(Refusal(ErrorCode.TXID_MISMATCH, why, txid=tx.computed_txid))
            return forged
        payment = self._payments.get(tx.txid) or self.confirming.get(tx.txid)
        if payment is None:
            payment = Payment(tx, self.now, may_be_known=again)
            payment.is_given(self.now)
            self._payments.add(payment)
            try:
                self._client.require_open()
                require_frame(tx)
                self._broadcast(payment, again=again)
            except (Refusal, ConnectionGone) as error:
                self._end(payment, error)
        return payment

    def resume(self) -> None:
        """A new connection: everything that is not decided is sent again."""
        for payment in self._payments:
            self._broadcast(payment, again=True)
        for cancel in list(self._cancels.values()):
            self._client.run(self._send_cancel(cancel))

    def _broadcast(self, payment: Payment, *, again: bool = False) -> None:
        protocol = self._client.connection
        if protocol is not None and not payment.is_over and protocol not in payment.asking:
            if not payment.is_bounced:  # it is given again and again where it is refused, and handed on all the same
                payment.is_given(self.now)
            self._client.run(self._send(payment, protocol, again=again))

    async def _send(self, payment: Payment, protocol: WalletClientProtocol, *, again: bool) -> None:
        try:
            refusal = await self._give(payment, protocol, self._belief, only_node=self._client.has_one_node)
        except ConnectionGone:
            return  # it is sent again to the next node
        if refusal is None:
            payment.is_taken(protocol, self.now)
            if again:  # it may have become final while nobody told us
                await self.look_for_proof(payment)
        elif not payment.is_over:
            self._client.last_refusal = refusal
            payment.is_bounced = True
            if payment.is_restless(self.now):
                self._client.try_elsewhere()

    async def _give(
        self, payment: Payment, protocol: WalletClientProtocol, belief: Belief, *, only_node: bool = False
    ) -> Refusal | None:
        """Gives a payment to a node: None if that takes it, or why not; if that is the last word it ends the payment.
        :class:`ConnectionGone` if the node went away."""
        payment.asking.append(protocol)
        said: Refusal | None = None
        try:
            await protocol.request(messages.TransactionBroadcast(tx=payment.tx))
        except ConnectionGone:
            payment.may_be_known = True
            raise
        except Refusal as refusal:
            said = refusal
        finally:
            payment.asking.remove(protocol)
        if said is None:
            payment.accepted(self.now)
            payment.may_be_known = True
            return None
        payment.may_be_known = payment.may_be_known or said.code in UNSURE
        word = await final_word(said, payment, belief, only_node=only_node)
        if word is not None and not payment.is_over:  # while that was asked
            self._keep_in_mind(payment)
            self._end(payment, word)
        return said

    # -- another node --------------------------------------------------------------------------------

    def overdue(self) -> list[Payment]:
        """Some of the payments that are not decided in time, those first that are due for longest."""
        overdue = [payment for payment in self._payments if self.now >= payment.hand_on_at]
        return sorted(overdue, key=lambda payment: payment.hand_on_at)[:HANDED_ON]

    async def hand_on(self, payment: Payment, protocol: WalletClientProtocol, belief: Belief) -> bool:
        """Gives a payment to another node too; what that one can prove of its end ends it. True if it takes what it had
        not heard of. :class:`ConnectionGone` if it went away."""
        payment.is_handed_on(self.now)
        has_heard = True
        try:
            await belief.ask(messages.GetTransaction(txid=payment.txid))
        except Refusal as refusal:
            has_heard = refusal.code is not ErrorCode.NOT_FOUND
        if payment.is_over or await self._give(payment, protocol, belief) is not None:
            return False
        if payment.txid in self._cancels:
            await self._send_cancel(self._cancels[payment.txid], belief)
        return not has_heard

    # -- asking --------------------------------------------------------------------------------------

    async def fetch_proof(self, txid: str, belief: Belief | None = None) -> Proof:
        """The proof of what is final by now, verified; :class:`Refusal` ``not_found`` if it is not. ``belief``: of the
        node that is asked, if that is another than the one of the moment."""
        proof = await (belief or self._belief).final_proof(txid)
        for each in self._refused_with(txid)[:1]:  # it settles all of them, whoever asked
            self._finish(each.tx, proof)
        return proof

    async def look_for_proof(self, payment: Payment, belief: Belief | None = None) -> None:
        """Ends the payment if it is proven to be final, or never to be; ``belief`` as in :meth:`fetch_proof`."""
        try:
            proof = await self.fetch_proof(payment.txid, belief)
        except ConnectionGone:
            return
        except Refusal:
            await self._look_for_end(payment, belief)
            return
        self._finish(payment.tx, proof)

    async def _look_for_end(self, payment: Payment, belief: Belief | None = None) -> None:
        try:
            end = await (belief or self._belief).end_of(payment.tx)
        except (Refusal, ConnectionGone):
            return  # not decided yet, or nobody to ask
        if end is not None:
            self.is_dead(payment.txid, end)

    def tick(self) -> None:
        """Every ``ASK_AGAIN`` seconds: asks for what did not come by itself."""
        bounced = [payment for payment in self._payments if payment.is_bounced and not payment.is_accepted]
        if any(payment.is_restless(self.now) for payment in bounced):
            self._client.try_elsewhere()
        for payment in bounced:
            self._broadcast(payment)
        asks = (each for each in self._payments if each.is_accepted or each.txid in self._cancels)
        for payment in islice((each for each in asks if each.is_to_be_asked_after(self.now)), ASKED):
            payment.is_asked_after(self.now)
            self._once(("proof", payment), partial(self.look_for_proof, payment))
        for payment in list(self._refused):
            if self._belief.proven(payment.txid) is not None:  # seen among the coins, and no node told us of it
                self._once(("proof", payment), partial(self.look_for_proof, payment))
        for cancel in list(self._cancels.values()):
            self._once(("cancel", cancel.txid), partial(self._send_cancel, cancel))
        self.confirming.tick()

    # -- cancelling ----------------------------------------------------------------------------------

    def cancel(self, tx: Transaction, key: SigningKey) -> Deferred[Aborted]:
        """Asks the masternodes to end a transaction of ours. Fires with the proven end; fails with ``already_final`` if
        it became final instead, with ``not_owner`` at once if ``key`` owns no input of it."""
        if bytes.fromhex(key.public_hex) not in tx.keys:
            why = f"the key {key.public_hex} spends no coin in {tx.txid}"
            return fail(Refusal(ErrorCode.NOT_OWNER, why, txid=tx.txid))
        unsigned = messages.TransactionCancel(txid=tx.txid, key=key.public_hex, signature="0" * 128)
        signature = key.sign(unsigned.message(self._client.genesis.hash)).hex()
        cancel = messages.TransactionCancel(txid=tx.txid, key=key.public_hex, signature=signature)
        payment = self.submit(tx, again=True)
        if not payment.is_over:
            self._cancels[tx.txid] = cancel
            payment.is_urgent(self.now)
            self._client.run(self._send_cancel(cancel))

        def final(proof: Proof) -> Aborted:
            raise Refusal(ErrorCode.ALREADY_FINAL, f"{tx.txid} became final", txid=tx.txid)

        def ended(failure: Any) -> Aborted:
            failure.trap(Aborted)
            end: Aborted = failure.value
            return end

        return payment.when_final().addCallbacks(final, ended)

    async def _send_cancel(self, cancel: messages.TransactionCancel, belief: Belief | None = None) -> None:
        try:
            await (belief or self._belief).ask(cancel)
        except ConnectionGone:
            return
        except Refusal as refusal:  # said again in time; if it is decided, we want to see how
            payment = self._payments.get(cancel.txid)
            if payment is not None and refusal.code in (ErrorCode.ALREADY_FINAL, ErrorCode.ABORTED):
                await self.look_for_proof(payment, belief)

    # -- what is told --------------------------------------------------------------------------------

    def notified(self, message: messages.UTXOStateNotification) -> None:
        """A notification, as far as it concerns a payment of ours."""
        change = message.notification
        state = from_wire(change.new_state)
        proof = message.proof or message.inclusion
        if isinstance(state, Confirmed):
            self.confirming.told(state, message.inclusion)
        payment = self._payments.get(holder(state) or "")
        if payment is not None and change.outpoint in payment.tx.outpoints:
            self._hear_of(payment, state, proof)
            return
        if isinstance(state, SpentFinalized | Confirmed):
            for each in self._refused_with(state.txid)[:1]:  # it settles all of them
                self._hear_of(each, state, proof)
        for each in self._payments.spending(change.outpoint):
            if isinstance(state, SpentFinalized | Confirmed):
                rival = partial(self._hear_of_rival, each, change.outpoint, state.txid, proof)
                self._once(("rival", each, state.txid, proof), rival)
            elif isinstance(state, Unspent):  # a block may have ended it
                self._once(("end", each), partial(self._look_for_end, each))

    def _hear_of(self, payment: Payment, state: UTXOState, proof: Proof | None) -> None:
        if not isinstance(state, SpentFinalized | Confirmed):
            payment.reached(kind(state), self.now)
            return
        try:
            self._finish(payment.tx, self._belief.check(proof, payment.txid))
        except Lie as lie:
            self._client.troubled(lie)

    async def _hear_of_rival(self, payment: Payment, outpoint: Outpoint, rival: str, proof: Proof | None) -> None:
        """A coin of our payment is said to be spent by another: if that is proven, ours is over."""
        try:
            loss = await self._belief.loss_of(payment.tx, outpoint, rival, self._belief.check(proof, rival))
        except (Refusal, ConnectionGone):
            return  # it cannot be checked now; the payment goes on and meets its refusal
        self.is_dead(payment.txid, loss)

    # -- the end -------------------------------------------------------------------------------------

    def _finish(self, tx: Transaction, proof: Proof) -> None:
        """``tx`` is proven final. That settles whichever payment with it is here now, not only the one that asked: it
        may have been refused meanwhile, and submitted again."""
        self._belief.remember(tx)
        payment = self._payments.get(tx.txid)
        if payment is not None:
            self._forget(payment)
            self.confirming.is_final(payment)
            payment.became_final(proof, self.now)
        refused = self._refused_with(tx.txid)
        for each in refused:
            del self._refused[each]
        for each in refused:
            if self.confirming.get(tx.txid) is None:
                self.confirming.is_final(each)
            each.final_after_all(proof, self.now)
        if isinstance(proof, InclusionProof):
            self.confirming.is_confirmed(tx.txid, proof.header.height)

    async def is_in_a_block(self, txid: str, belief: Belief | None) -> None:
        """Proven: then it is final too, and nobody told us; ``belief`` as in :meth:`fetch_proof`."""
        payment = self._payments.get(txid) or next(iter(self._refused_with(txid)), None)
        if payment is not None:
            await self.look_for_proof(payment, belief)

    def is_dead(self, txid: str, why: Refusal) -> None:
        """Proven: it can never be final, whichever payment with it is here now."""
        payment = self._payments.get(txid)
        if payment is not None:
            self._end(payment, why)
        self.confirming.refuse(txid, why)

    def _end(self, payment: Payment, why: Exception) -> None:
        if self._forget(payment):
            self.confirming.refuse(payment.txid, why)
        payment.failed(why)

    def _forget(self, payment: Payment) -> bool:
        """As :meth:`Undecided.remove`; what was to end it is not said any more either."""
        was_here = self._payments.remove(payment)
        if was_here:
            self._cancels.pop(payment.txid, None)
        return was_here

    def _keep_in_mind(self, payment: Payment) -> None:
        """A refusal ends it. That is a node's word, and what is proven later may say otherwise."""
        self._refused[payment] = None
        if len(self._refused) > REFUSED:
            del self._refused[next(iter(self._refused))]

    def _refused_with(self, txid: str) -> list[Payment]:
        return [each for each in self._refused if each.txid == txid]
