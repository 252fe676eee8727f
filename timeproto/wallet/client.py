"""A wallet's service above the connection: several nodes, reconnects, subscriptions that come back, payments that end.

It believes no node: see :mod:`timeproto.wallet.belief`. What it has sent it sends again after every reconnect, which is
harmless, since nodes know a transaction by its hash; and it asks for a proof that does not come by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.application.internet import ClientService
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from timeproto.errors import ConfigurationError
from timeproto.model.address import require_address
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.network.greeting import GreetedEndpoint, HandleFactory, back_off
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.account import Account
from timeproto.wallet.belief import Aborted, Belief, Lie, Proof, Silence, Unserved
from timeproto.wallet.coins import Balance, InsufficientFunds
from timeproto.wallet.connection import ConnectionFactory
from timeproto.wallet.incoming import Incoming
from timeproto.wallet.nodes import Node, Rotation
from timeproto.wallet.outbox import Outbox
from timeproto.wallet.payment import ASK_AGAIN, Payment
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wallet.purse import Purse
from timeproto.wallet.reading import address_coins
from timeproto.wallet.resuming import Proprietor
from timeproto.wallet.second import SecondNode
from timeproto.wallet.waiters import Waiters
from timeproto.wallet.watch import Change, Watch
from timeproto.wallet.watching import REFUSED, Watches
from timeproto.wire import messages

SLOW = 5.0
"""Seconds of one answer, on average, above which another node is tried."""


class WalletClient(MultiService):
    """Talks to one of ``nodes`` at a time, in turn; keeps watches and payments over every reconnect."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        genesis: Genesis,
        nodes: Sequence[Node | str],
        *,
        purse: Purse | None = None,
        now: Callable[[], int] = lambda: int(time.time()),
        random: Callable[[int], bytes] = os.urandom,
        lease_key: SigningKey | None = None,
        rotation: Any = None,
    ) -> None:
        """``nodes``: ``HOST:PORT`` or :class:`Node`. With a ``purse`` it has money: see :meth:`send`, :meth:`balance`.

        ``now``: Unix seconds, for the timestamp of transactions. ``lease_key``: what watches are leased to at nodes;
        otherwise one is made, and nobody can tell by it that two clients are of one wallet. Two clients at once must
        not have the same. ``rotation``: another endpoint, for tests.
        """
        super().__init__()
        self.genesis = genesis
        self.belief = Belief(genesis, self.ask)
        self.reactor = reactor
        self.nodes = rotation or Rotation(reactor, [n if isinstance(n, Node) else Node(n) for n in nodes])
        self.unreached: dict[str, str] = self.nodes.unreached
        """By address, why a node could not be connected to when it was tried last."""
        self._protocol: WalletClientProtocol | None = None
        self._outbox = Outbox(self)
        owner = Proprietor(lease_key or SigningKey(random(32)), genesis.hash, now)
        self.watches = Watches(self.belief, self.troubled, reactor, owner)
        self._second = SecondNode(self, reactor, self.nodes, self._outbox, self.watches)
        self._may_leave = self._may_be_choosy = 0.0
        self._regularly: list[Callable[[], Any]] = []
        self._is_prepared = self._is_leaving = self._heard_lie = False
        self._waiters = Waiters()
        self.last_refusal: Exception | None = None
        factory = ConnectionFactory(
            reactor,
            genesis,
            self.nodes,
            on_notification=self._notified,
            on_notice=self.watches.noted,
            on_lost=self._lost,
            random=random,
        )
        self._service = ClientService(
            GreetedEndpoint(self.nodes, factory, lambda protocol: ensureDeferred(self._prepare(protocol))),
            HandleFactory(),
            retryPolicy=back_off,
            clock=reactor,
        )
        self._service.setServiceParent(self)
        self._asking = LoopingCall(self._tick)
        self._asking.clock = reactor
        self._account = None if purse is None else Account(purse, self, now=now)

    # -- service -------------------------------------------------------------------------------------

    def startService(self) -> None:
        if self.running:  # whoever made it has started it, and its parent does so too
            return
        self._waiters.open()
        super().startService()
        self._asking.start(ASK_AGAIN, now=False).addErrback(
            lambda failure: self.log.failure("the wallet's clock stopped", failure=failure)
        )

    def stopService(self) -> Deferred[None]:
        self._waiters.close()
        self._lost(self._protocol)  # it may take its time to go, and nobody is to be given it
        if self._asking.running:
            self._asking.stop()
        stopping: Deferred[None] = super().stopService()
        waiting = self._outbox.close(ConnectionGone("the wallet was closed before the payment was final"))
        waiting += self.watches.close(ConnectionGone("the wallet was closed")) + self._waiters.dismiss()
        for tell in waiting:  # who is told may start the client again, and what is asked of it then is not of this life
            tell()
        return stopping

    def when_connected(self) -> Deferred[None]:
        """Fires when a node is there, has proven its key, and watches all that nodes have taken before; fails with
        :class:`ConnectionGone` if the client is stopped, or was."""
        return self._waiters.wait(is_there=self.connection is not None)

    @property
    def is_stopped(self) -> bool:
        """True if it was, and not started again."""
        return self._waiters.is_closed

    def require_open(self) -> None:
        """Raises :class:`ConnectionGone` if the client is stopped: nobody will answer."""
        self._waiters.require_open()

    @property
    def is_current(self) -> bool:
        """After :meth:`settled`: true if a node watches what nodes have taken before, and all it told was checked."""
        return self.connection is not None and self.watches.is_known

    @property
    def connection(self) -> WalletClientProtocol | None:
        """The connection, once the node has proven itself and watches all that nodes have taken before."""
        return self._protocol if self._is_prepared else None

    @property
    def has_one_node(self) -> bool:
        return len(self.nodes) == 1

    def seconds(self) -> float:
        return float(self.reactor.seconds())

    def regularly(self, call: Callable[[], Any]) -> None:
        """Runs the coroutine of ``call()`` every ``ASK_AGAIN`` seconds, as long as the service runs."""
        self._regularly.append(call)

    def _tick(self) -> None:
        if self._is_leaving or self.watches.is_to_begin_anew:
            self.try_elsewhere()
        self._outbox.tick()
        self._second.tick()
        for call in self._regularly:
            self.run(call())
        if self._is_prepared:
            self.run(self.watches.arrivals.ask_after())
        if self.connection is not None:
            self.watches.ask_again(self.connection)
            if self.connection.slowness > SLOW:
                self.troubled(Unserved(f"it takes its answers {self.connection.slowness:.0f} s, one after another"))

    @property
    def node(self) -> str:
        """The address of the node of the moment."""
        return str(self.nodes.current.address)

    async def ask(self, request: Any) -> Any:
        """Sends a request to the node of the moment. Raises :class:`Refusal` or :class:`ConnectionGone`."""
        self.require_open()
        if self._protocol is None:
            raise ConnectionGone("no node is connected")
        return await self._protocol.request(request)

    async def _prepare(self, protocol: Any) -> None:
        """A new connection: prove the node, take up the watches, send again what is not decided."""
        try:
            await protocol.when_ready()
            self._protocol = protocol  # what the snapshots claim is checked over this very connection
            self._heard_lie = False
            await self.watches.resubscribe(protocol)
            if self._protocol is not protocol:
                raise ConnectionGone("the node was left before it had told everything")
        except Exception as error:
            self._lost(protocol)
            self.last_refusal = error
            self.log.info("the node at {node} is not for us: {why}", node=self.node, why=error)
            raise
        self.last_refusal = None
        self._is_prepared = True
        self._waiters.tell()
        if self._protocol is not protocol:
            raise ConnectionGone("the node was left by somebody who was told of it")
        self._outbox.resume()

    def _lost(self, protocol: WalletClientProtocol | None) -> None:
        if self._protocol is protocol:
            self._protocol, self._is_prepared, self._is_leaving = None, False, False

    def try_elsewhere(self) -> None:
        """The node of the moment does not serve us: the next one may, now or as soon as we may leave.

        Not more often than every ``ASK_AGAIN`` seconds: nodes that all refuse are not run through like a wheel.
        """
        now = self.reactor.seconds()
        self._is_leaving = self._protocol is not None
        if self._protocol is not None and now >= self._may_leave:
            self._may_leave = now + ASK_AGAIN
            self._protocol.close()
            self._lost(self._protocol)

    def troubled(self, why: Exception) -> None:
        """What the node says is not true, or cannot be checked with it. A liar is left if there is anybody else."""
        if isinstance(why, Silence) and self.has_one_node:
            return
        if isinstance(why, Unserved):  # the others may do no better, and are not run through
            if self.seconds() < self._may_be_choosy:
                return
            self._may_be_choosy = self.seconds() + REFUSED
        if not isinstance(why, Lie):
            self.log.info("what {node} told could not be checked: {why}", node=self.node, why=why)
        elif not self._heard_lie:  # the first says enough, and a liar must not fill the disk
            self._heard_lie = True
            self.log.warn("the node at {node} {does}: {what}", node=self.node, does=why.does, what=why)
        if not isinstance(why, Lie) or len(self.nodes) > 1:
            self.try_elsewhere()

    # -- payments ------------------------------------------------------------------------------------

    def submit(self, tx: Transaction, *, again: bool = False) -> Payment:
        """Sends a signed transaction, and again until it is decided. The same one twice is one payment.

        ``again``: it may have been sent in an earlier life, and be final already.
        """
        return self._outbox.submit(tx, again=again)

    def wait_final(self, txid: str) -> Deferred[Proof]:
        """The verified proof of a payment of ours, when there is one, or of any transaction that is final already."""
        payment = self._outbox.get(txid)
        if payment is not None:
            return payment.when_final()
        return ensureDeferred(self.fetch_proof(txid))

    def wait_confirmed(self, txid: str) -> Deferred[int]:
        """The height of the decided block that holds ``txid``, proven, when there is one."""
        return self._outbox.confirming.when_confirmed(txid)

    async def fetch_proof(self, txid: str) -> Proof:
        """The proof of what is final by now, verified; :class:`Refusal` ``not_found`` if it is not."""
        return await self._outbox.fetch_proof(txid)

    def cancel(self, tx: Transaction | str, key: SigningKey | None = None) -> Deferred[Aborted]:
        """Asks that a transaction of ours, or the one of this txid, end; and asks again over every reconnect.

        Fires with the proven :class:`~timeproto.wallet.belief.Aborted` when a block has ended it; fails with
        :class:`Refusal` ``already_final`` if it became final instead. ``key`` must own one of its inputs; a client with
        a purse finds it. The transaction is sent along, since a masternode can only end what it knows: what nobody had
        heard of may become final by that.
        """

        async def cancel() -> Aborted:
            found = await self._transaction(tx) if isinstance(tx, str) else tx
            return await (self.account.cancel(found) if key is None else self._outbox.cancel(found, key))

        return Deferred.fromCoroutine(cancel())

    async def _transaction(self, txid: str) -> Transaction:
        payment = self._outbox.get(txid)
        if payment is not None:
            return payment.tx
        pending = () if self._account is None else self._account.pending
        return next((tx for tx in pending if tx.txid == txid), None) or await self.belief.claimed(txid)

    # -- money ---------------------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        """Keys and coins; only a client with a purse has them."""
        if self._account is None:
            raise ConfigurationError("this wallet client was made without a purse: it has no money")
        return self._account

    def send(self, address: str, amount: int) -> Deferred[Payment]:
        """Pays ``amount`` smallest units to ``address``; fires with the :class:`Payment` when it has left.

        It waits for a node. Fails with ``InsufficientFunds``, :class:`Refusal` for an address of another network, or
        as :meth:`balance` does. The payment's ``when_accepted()`` and ``when_final()`` tell how it goes on.
        """

        async def send() -> Payment:
            await self.account.opened()
            try:
                return self.account.send(address, amount)
            except InsufficientFunds:
                await self.account.read()  # there may be more
            try:
                return self.account.send(address, amount)
            except InsufficientFunds:
                self.account.require_read()  # an address may be known since that is not read yet
                raise

        return Deferred.fromCoroutine(send())

    def balance(self) -> Deferred[Balance]:
        """What there is, proven: available, pending, locked, total, in smallest units. It waits for a node.

        Fails with :class:`ConnectionGone` if that went away before every coin was read, or its :class:`Refusal` to
        watch some: ask again. What was known last is ``account.balance()``.
        """

        async def balance() -> Balance:
            await self.account.opened()
            await self.account.read()
            return self.account.balance()

        return Deferred.fromCoroutine(balance())

    # -- watching ------------------------------------------------------------------------------------

    def watch(
        self,
        on_change: Callable[[Change], None],
        *,
        addresses: Iterable[str] = (),
        outpoints: Iterable[Outpoint] = (),
        on_reset: Callable[[str], None] = lambda reason: None,
        on_payment: Callable[[Incoming], None] | None = None,
    ) -> Deferred[Watch]:
        """Tells every change of these coins, beginning with their states now (``old_state`` None).

        Fires when a node has taken the subscription: it waits for one where none is there, and where the one that is
        goes away or refuses it for now. What fails is not watched: with :class:`Refusal` if a node refuses it for good,
        with :class:`ConnectionGone` if the client is stopped, or was; nor is what was cancelled. After a reconnect it
        goes on with the first change that was not told. Where that cannot be (the node is another one, or was left too
        long ago) ``on_reset(reason)`` says so, and what changed meanwhile is told as one change from the state told
        last.

        ``on_payment(incoming)`` hears of payments on their way to these addresses, where the node tells of them: its
        word, and never money. See :class:`~timeproto.wallet.incoming.Incoming`.
        """

        async def subscribe() -> Watch:
            self.require_open()
            wanted = [require_address(each, self.genesis.params) for each in addresses]
            watch = self.watches.add(on_change, wanted, outpoints, on_reset, on_payment)
            try:
                await self.watches.take_up(self._protocol, watch)
            except Exception:
                watch.stop()
                raise
            return watch

        return Deferred.fromCoroutine(subscribe())

    @property
    def cursor(self) -> messages.Cursor | None:
        """The place in one node's log up to which all watches have been told everything; None if there is no such."""
        return self.watches.cursor

    async def settled(self) -> None:
        """Returns when everything heard so far has been checked and told."""
        await self.watches.settled()

    async def address_coins(self, address: str, *, spent: bool = False) -> list[messages.CoinState]:
        """All coins of an address as the node of the moment claims them."""
        return await address_coins(self.ask, address, spent=spent)

    def _notified(self, message: messages.UTXOStateNotification) -> None:
        """A notification: first what concerns our payments, at once; then, in order, what watches hear of."""
        self._outbox.notified(message)
        self.watches.notified(message)

    def run(self, work: Any) -> None:
        """Starts a coroutine whose failures are the node's, and then it is left, or ours, and then they are logged."""

        def failed(failure: Any) -> None:
            if isinstance(failure.value, Lie):
                self.troubled(failure.value)
            else:
                self.log.failure("the wallet's own code failed", failure=failure)

        ensureDeferred(work).addErrback(failed)
