"""The undecided payments of one purse: who sends each, when it is over, and what that does to its coins.

A payment is in the purse before it leaves, and is taken out when it is over. Several processes may share a purse: each
leaves the payments of the others alone for a while, and takes up what another has left, or died with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from timeproto.errors import ConfigurationError, Refusal, StorageError
from timeproto.model.transaction import Transaction
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.addresses import Addresses
from timeproto.wallet.belief import Aborted, DoubleSpend, Lie
from timeproto.wallet.coins import CoinBook
from timeproto.wallet.payment import Payment, Step
from timeproto.wallet.purse import Purse
from timeproto.wallet.turns import together

if TYPE_CHECKING:  # a client with a purse makes itself an account
    from timeproto.wallet.client import WalletClient

LEFT_ALONE = 30.0
"""Seconds for which a payment of another process is that one's to send."""

AT_A_TIME = 20
"""Payments that are asked after at the same time: a slow node is to be waited for once, and not once for each."""

_UNWRITTEN = (StorageError, ConfigurationError)


class Promises:
    """Keeps purse and coins of a wallet at one with what becomes of its payments."""

    log = Logger()

    def __init__(self, purse: Purse, client: WalletClient, book: CoinBook, own: Addresses) -> None:
        self._purse = purse
        self._client = client
        self._book = book
        self._own = own
        self._followed: set[str] = set()
        self._others: dict[str, tuple[Transaction, float]] = {}
        self._unwritten: dict[str, Callable[[], None]] = {}

    @property
    def pending(self) -> list[Transaction]:
        return list(self._purse.pending)

    def look(self) -> None:
        """What could not be written is tried again; what others have added is theirs, and what they left is taken
        up. The purse has been read."""
        for write in list(self._unwritten.values()):
            write()
        pending = {tx.txid: tx for tx in self._purse.pending}
        for txid in self._others.keys() - pending:
            self._book.release(self._others.pop(txid)[0].outpoints, txid)
        self.leave_to_others(
            tx for txid, tx in pending.items() if txid not in self._followed and txid not in self._unwritten
        )
        if self._client.is_stopped:
            return
        now = self._client.seconds()
        self.take_up([tx for tx, since in self._others.values() if now - since >= LEFT_ALONE])

    def leave_to_others(self, payments: Iterable[Transaction]) -> None:
        """These are another process': it sends them, and their coins are not ours to spend."""
        for tx in payments:
            self._others.setdefault(tx.txid, (tx, self._client.seconds()))
            self._book.reserve(tx.outpoints, tx.txid)

    def take_up(self, payments: Iterable[Transaction]) -> None:
        """Sends what another process, or an earlier life, has left undecided. It is noted first: from then on no
        process takes a node's no for the end of it, since another one may have asked another node."""
        by_txid = {tx.txid: tx for tx in payments}
        if not by_txid:
            return
        try:
            there = self._purse.share(*by_txid)
        except _UNWRITTEN:
            return  # it is looked for again
        for txid in there:
            self._others.pop(txid, None)
            self._unwritten.pop(txid, None)  # it was not to be, and is now
            self.follow(self._client.submit(by_txid[txid], again=True))

    async def undecided(self, payments: Iterable[Transaction]) -> list[Transaction]:
        """Those that are not proven to have become final while nobody looked; the others are over. Raises
        :class:`ConnectionGone` if the node went away; one that lies about them is left instead."""
        payments = list(payments)
        to_ask, final, troubles = iter(payments), set[str](), list[Exception]()

        async def ask() -> None:
            for tx in to_ask:
                try:
                    await self._client.fetch_proof(tx.txid)
                except Refusal:
                    pass  # it is not, as far as the node knows
                except (Lie, ConnectionGone) as trouble:
                    troubles.append(trouble)
                    if isinstance(trouble, Lie):  # from here on there may be nobody to ask
                        self._client.troubled(trouble)
                else:
                    final.add(tx.txid)
                    self.is_final(tx)

        await together(ask() for _ in range(AT_A_TIME))
        if troubles and isinstance(troubles[0], ConnectionGone):
            raise troubles[0]
        return [tx for tx in payments if tx.txid not in final]

    # -- one payment ---------------------------------------------------------------------------------

    def follow(self, payment: Payment) -> None:
        """Notes how it ends."""
        tx = payment.tx
        if tx.txid in self._followed:
            return
        self._followed.add(tx.txid)

        def failed(failure: Any) -> None:
            if failure.check(Refusal):  # a node said no, or a block has ended it: the coins are ours to spend again
                self.forget(tx, is_unpaid=True)
                for outpoint in failure.value.spent if failure.check(Aborted, DoubleSpend) else ():
                    self._book.spent(outpoint)  # but not those that its rival took
                payment.on_step(final_after_all)
            else:  # nobody knows: it stays in the purse, and is sent again as soon as the client is started again
                self._others[tx.txid] = tx, self._client.seconds() - LEFT_ALONE

        def final_after_all(step: Step) -> None:
            if step.state == "SpentFinalized":  # the node that said no passed it on
                self.is_final(tx)

        def ended(result: Any) -> None:
            self._followed.discard(tx.txid)

        payment.when_final().addCallbacks(lambda _: self.is_final(tx), failed).addErrback(
            lambda failure: self.log.failure("a payment's end could not be noted", failure=failure)
        ).addCallback(ended)

    def is_final(self, tx: Transaction) -> None:
        """A payment of ours is proven final: its coins are gone, and there is nothing to remember."""
        for outpoint in tx.outpoints:
            self._book.spent(outpoint)
        self.forget(tx, is_unpaid=False)

    def take_back(self, tx: Transaction) -> bool:
        """A node refuses what only this process has sent: it is over once that is written. False if it is not, or if
        somebody else may have sent it."""
        try:
            return self._purse.take_back(tx.txid, *self._spare(tx))
        except _UNWRITTEN as error:
            if all(each.txid != tx.txid for each in self._purse.pending):
                return True  # it is out of the file all the same, and the next change makes sure of it
            self.log.error("the payment {txid} goes on, for its end cannot be written: {why}", txid=tx.txid, why=error)
            return False

    def forget(self, tx: Transaction, *, is_unpaid: bool) -> None:
        """A payment is over, whoever sent it."""
        self._write(tx, lambda: self._purse.remove_pending(tx.txid, *(self._spare(tx) if is_unpaid else ())))

    def withdraw(self, tx: Transaction) -> None:
        """A payment was not to be: the disk may hold it, whatever it said. If somebody sends it by then, it is one of
        those that others have left."""
        self._write(tx, lambda: self._purse.take_back(tx.txid, *self._spare(tx)))

    def _write(self, tx: Transaction, write: Callable[[], object]) -> None:
        """Until the end of a payment is written its coins are kept, for it is sent again at the next start."""
        try:
            write()
        except _UNWRITTEN as error:
            if tx.txid not in self._unwritten:
                self.log.error("the end of the payment {txid} is not written yet: {why}", txid=tx.txid, why=error)
            self._unwritten[tx.txid] = partial(self._write, tx, write)
            self._book.reserve(tx.outpoints, tx.txid)
            return
        self._unwritten.pop(tx.txid, None)
        self._book.release(tx.outpoints, tx.txid)

    def _spare(self, tx: Transaction) -> list[int]:
        """The addresses for its change to which no other payment pays."""
        used = {index for each in self._purse.pending if each.txid != tx.txid for index in self._own.change_of(each)}
        return [index for index in self._own.change_of(tx) if index not in used]
