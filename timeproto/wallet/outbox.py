"""Payments on their way: sent again until they are decided, asked after, ended by a proof or a last word alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import InclusionProof
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import Confirmed, SpentFinalized, Unspent, UTXOState, from_wire, holder, kind
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.belief import Aborted, Belief, Lie, Proof
from timeproto.wallet.payment import Payment
from timeproto.wallet.refusals import UNSURE, final_word, require_frame
from timeproto.wallet.waiters import refuse
from timeproto.wire import messages

if TYPE_CHECKING:  # a client makes itself an outbox
    from timeproto.wallet.client import WalletClient

ASK_AGAIN = 2.0
"""Seconds after which an undecided payment's proof is asked for."""

UNCONFIRMED = 10_000
"""Final payments of which it is still noted, if it is told, which block contains them."""

HANDED_ON = 100
"""Payments that another node is given at a time."""

REFUSED = 1_000
"""Payments that a node's refusal has ended, of which it is still noted if they turn out to be final."""


class Outbox:
    """The undecided payments of one client, over whatever connection it has."""

    def __init__(self, client: WalletClient) -> None:
        self._client = client
        self._belief = client.belief
        self._payments: dict[str, Payment] = {}
        self._unconfirmed: dict[str, Payment] = {}
        self._refused: dict[Payment, None] = {}
        self._cancels: dict[str, messages.TransactionCancel] = {}
        self._confirming: dict[str, list[Deferred[int]]] = {}

    @property
    def now(self) -> float:
        return self._client.seconds()

    def get(self, txid: str) -> Payment | None:
        return self._payments.get(txid)

    def close(self, why: Exception) -> list[Callable[[], None]]:
        """Nothing will be heard any more: what is returned tells whoever waits."""
        payments, self._payments = self._payments, {}
        confirming, self._confirming = self._confirming, {}
        self._cancels.clear()
        tell: list[Callable[[], None]] = [partial(payment.failed, why) for payment in payments.values()]
        return tell + [partial(refuse, each, why) for waiting in confirming.values() for each in waiting]

    # -- sending -------------------------------------------------------------------------------------

    def submit(self, tx: Transaction, *, again: bool = False) -> Payment:
        """Sends a signed transaction, and again until it is decided. The same one twice is one payment, until a block
        contains it or it fails."""
        if tx.txid != tx.computed_txid:  # what is proven of its name says nothing of what it holds
            forged, why = Payment(tx, self.now), "the txid is not the hash of the transaction"
            forged.failed(Refusal(ErrorCode.TXID_MISMATCH, why, txid=tx.computed_txid))
            return forged
        payment = self._payments.get(tx.txid) or self._unconfirmed.get(tx.txid)
        if payment is None:
            payment = self._payments[tx.txid] = Payment(tx, self.now, may_be_known=again)
            try:
                self._client.require_open()
                require_frame(tx)
                self._broadcast(payment, again=again)
            except (Refusal, ConnectionGone) as error:
                self._end(payment, error)
        return payment

    def resume(self) -> None:
        """A new connection: everything that is not decided is sent again."""
        for payment in list(self._payments.values()):
            self._broadcast(payment, again=True)
        for cancel in list(self._cancels.values()):
            self._client.run(self._send_cancel(cancel))

    def _broadcast(self, payment: Payment, *, again: bool = False) -> None:
        protocol = self._client.connection
        if protocol is None or payment.is_over or protocol in payment.asking:
            return

        async def send() -> None:
            payment.asking.append(protocol)
            payment.is_given(self.now)
            try:
                await protocol.request(messages.TransactionBroadcast(tx=payment.tx))
            except ConnectionGone:
                payment.asking.remove(protocol)
                payment.may_be_known = True
                return  # it is sent again to the next node
            except Refusal as refusal:
                payment.asking.remove(protocol)
                is_asked_elsewhere = bool(payment.asking)
                payment.may_be_known = payment.may_be_known or is_asked_elsewhere or refusal.code in UNSURE
                word = await final_word(refusal, payment, self._belief, only_node=self._client.has_one_node)
                if payment.is_over:  # while that was asked
                    return
                if word is not None:
                    self._keep_in_mind(payment)
                    self._end(payment, word)
                else:
                    self._client.last_refusal = refusal
                    payment.is_bounced = True
                    self._client.try_elsewhere()
                return
            payment.asking.remove(protocol)
            payment.accepted(self.now)
            payment.may_be_known = True
            if again:  # it may have become final while nobody told us
                await self.look_for_proof(payment)

        self._client.run(send())

    # -- another node --------------------------------------------------------------------------------

    def overdue(self) -> list[Payment]:
        """Some payments, not more than ``HANDED_ON``, that the node of the moment was given and that are not decided
        in time: each is returned once in a while, and ever more seldom."""
        overdue = [payment for payment in self._payments.values() if payment.is_overdue(self.now)][:HANDED_ON]
        for payment in overdue:
            payment.is_handed_on(self.now)
        return overdue

    async def hand_on(self, payment: Payment, belief: Belief) -> bool:
        """Gives a payment to another node too; what that one can prove of its end ends it. True if it had not heard of
        the payment, and takes it."""
        has_heard = True
        try:
            await belief.ask(messages.GetTransaction(txid=payment.txid))
        except Refusal as refusal:
            has_heard = refusal.code is not ErrorCode.NOT_FOUND
        if payment.is_over:
            return False
        payment.may_be_known = True
        try:
            await belief.ask(messages.TransactionBroadcast(tx=payment.tx))
        except Refusal as refusal:
            word = await final_word(refusal, payment, belief, only_node=False)
            if word is not None and not payment.is_over:
                self._keep_in_mind(payment)
                self._end(payment, word)
            return False
        payment.accepted(self.now)
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
            self._is_dead(payment.txid, end)

    def tick(self) -> None:
        """Every ``ASK_AGAIN`` seconds: asks for what did not come by itself."""
        bounced = [payment for payment in self._payments.values() if payment.is_bounced and not payment.is_accepted]
        if bounced:
            self._client.try_elsewhere()
        for payment in bounced:
            self._broadcast(payment)
        for payment in list(self._payments.values()):
            asks = payment.is_accepted or payment.txid in self._cancels
            if asks and not payment.is_over and self.now - payment.sent_at >= ASK_AGAIN:
                self._client.run(self.look_for_proof(payment))
        for payment in list(self._refused):
            if self._belief.proven(payment.txid) is not None:  # seen among the coins, and no node told us of it
                self._client.run(self.look_for_proof(payment))
        for cancel in list(self._cancels.values()):
            self._client.run(self._send_cancel(cancel))
        for txid in list(self._confirming):
            self._client.run(self._look_for_block(txid))

    # -- confirmation and cancelling -----------------------------------------------------------------

    def when_confirmed(self, txid: str) -> Deferred[int]:
        """Fires with the height of the decided block that holds ``txid``, proven; fails if the payment does."""
        waiting: Deferred[int] = Deferred(lambda waiting: self._wait_no_more(txid, waiting))
        try:
            self._client.require_open()
        except ConnectionGone as error:
            return fail(error)
        self._confirming.setdefault(txid, []).append(waiting)
        self._client.run(self._look_for_block(txid))
        return waiting

    def _wait_no_more(self, txid: str, waiting: Deferred[int]) -> None:
        others = [each for each in self._confirming.pop(txid, ()) if each is not waiting]
        if others:
            self._confirming[txid] = others

    @property
    def waits_for_blocks(self) -> bool:
        return bool(self._confirming)

    async def look_for_blocks(self, belief: Belief) -> None:
        """Asks another node for some of the blocks that are waited for: that they are there may be kept back too."""
        for txid in list(self._confirming)[:HANDED_ON]:
            await self._look_for_block(txid, belief)

    async def _look_for_block(self, txid: str, belief: Belief | None = None) -> None:
        try:
            height = await (belief or self._belief).confirmed(txid)
        except Aborted as end:
            self._is_dead(txid, end)
        except (Refusal, ConnectionGone):
            return  # no block holds it yet, or nobody to ask
        else:
            known = [self._payments[txid]] if txid in self._payments else self._refused_with(txid)
            if known:  # then it is final too, and nobody told us
                await self.look_for_proof(known[0], belief)
            self._is_confirmed(txid, height)

    def _is_confirmed(self, txid: str, height: int) -> None:
        payment = self._unconfirmed.pop(txid, None)
        if payment is not None:
            payment.confirmed(height, self.now)
        for waiting in self._confirming.pop(txid, ()):
            if not waiting.called:
                waiting.callback(height)

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
        if isinstance(state, Confirmed) and (state.txid in self._unconfirmed or state.txid in self._confirming):
            self._client.run(self._hear_of_block(state, message.inclusion))
        payment = self._payments.get(holder(state) or "")
        if payment is not None and change.outpoint in payment.tx.outpoints:
            self._hear_of(payment, state, proof)
            return
        if isinstance(state, SpentFinalized | Confirmed):
            for each in self._refused_with(state.txid)[:1]:  # it settles all of them
                self._hear_of(each, state, proof)
        concerned = [each for each in self._payments.values() if change.outpoint in each.tx.outpoints]
        for each in concerned:
            if isinstance(state, SpentFinalized | Confirmed):
                self._client.run(self._hear_of_rival(each, change.outpoint, state.txid, proof))
            elif isinstance(state, Unspent):  # a block may have ended it
                self._client.run(self._look_for_end(each))

    def _hear_of(self, payment: Payment, state: UTXOState, proof: Proof | None) -> None:
        if not isinstance(state, SpentFinalized | Confirmed):
            payment.reached(kind(state), self.now)
            return
        try:
            self._finish(payment.tx, self._belief.check(proof, payment.txid))
        except Lie as lie:
            self._client.troubled(lie)

    async def _hear_of_block(self, state: Confirmed, place: InclusionProof | None) -> None:
        try:
            height = await self._belief.confirmed(state.txid, state.block_height, place)
        except (Refusal, ConnectionGone):
            return  # it cannot be checked now; whoever waits for it asks again
        self._is_confirmed(state.txid, height)

    async def _hear_of_rival(self, payment: Payment, outpoint: Outpoint, rival: str, proof: Proof | None) -> None:
        """A coin of our payment is said to be spent by another: if that is proven, ours is over."""
        try:
            await self._belief.coin_is_spent(outpoint, rival, self._belief.check(proof, rival))
        except (Refusal, ConnectionGone):
            return  # it cannot be checked now; the payment goes on and meets its refusal
        why = f"the coin {outpoint} is spent for ever by {rival}"
        details = {"conflicting_txid": rival, "outpoint": str(outpoint)}
        self._is_dead(payment.txid, Refusal(ErrorCode.DOUBLE_SPEND, why, **details))

    # -- the end -------------------------------------------------------------------------------------

    def _finish(self, tx: Transaction, proof: Proof) -> None:
        """``tx`` is proven final. That settles whichever payment with it is here now, not only the one that asked: it
        may have been refused meanwhile, and submitted again."""
        self._belief.remember(tx)
        payment = self._payments.get(tx.txid)
        if payment is not None:
            self._forget(payment)
            self._await_block(payment)
            payment.became_final(proof, self.now)
        refused = self._refused_with(tx.txid)
        for each in refused:
            del self._refused[each]
        for each in refused:
            if tx.txid not in self._unconfirmed:
                self._await_block(each)
            each.final_after_all(proof, self.now)
        if isinstance(proof, InclusionProof):
            self._is_confirmed(tx.txid, proof.header.height)

    def _await_block(self, payment: Payment) -> None:
        self._unconfirmed[payment.txid] = payment
        if len(self._unconfirmed) > UNCONFIRMED:
            del self._unconfirmed[next(iter(self._unconfirmed))]

    def _is_dead(self, txid: str, why: Refusal) -> None:
        """Proven: it can never be final, whichever payment with it is here now."""
        payment = self._payments.get(txid)
        if payment is not None:
            self._end(payment, why)
        for waiting in self._confirming.pop(txid, ()):
            refuse(waiting, why)

    def _end(self, payment: Payment, why: Exception) -> None:
        if self._forget(payment):
            for waiting in self._confirming.pop(payment.txid, ()):
                refuse(waiting, why)
        payment.failed(why)

    def _forget(self, payment: Payment) -> bool:
        """False if it is not here any more: what is kept under its txid then belongs to another one."""
        if self._payments.get(payment.txid) is not payment:
            return False
        del self._payments[payment.txid]
        self._cancels.pop(payment.txid, None)
        return True

    def _keep_in_mind(self, payment: Payment) -> None:
        """A refusal ends it. That is a node's word, and what is proven later may say otherwise."""
        self._refused[payment] = None
        if len(self._refused) > REFUSED:
            del self._refused[next(iter(self._refused))]

    def _refused_with(self, txid: str) -> list[Payment]:
        return [each for each in self._refused if each.txid == txid]
