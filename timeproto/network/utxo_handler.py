"""Where wallets are served and told: queries, subscriptions, notifications (protocol §7, §8).

Every answer that speaks of coins is made at a boundary between commits (``NodeView.read``), so that a snapshot and the
notifications after it meet without a gap and without an overlap: a subscription exists from the very moment its
snapshot was taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import singledispatchmethod
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.address import require_address
from timeproto.model.block import DecidedBlock
from timeproto.model.certificate import KeptProof
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Transaction, parse_outpoint
from timeproto.model.utxo_state import Confirmed, SpentFinalized
from timeproto.network import costs
from timeproto.network.feeds import Feeds
from timeproto.network.handover import Ask, Handovers, nobody, not_found
from timeproto.network.history import Watched
from timeproto.network.incoming import Incoming
from timeproto.network.node_view import Client, NodeView
from timeproto.network.ownership import require_shown
from timeproto.network.snapshots import coin_state, item_state
from timeproto.network.subscriptions import Subscriptions, charge, over, require_room
from timeproto.wire import messages
from timeproto.wire.messages import Cursor

T = TypeVar("T")


class UTXOProtocolHandler:
    """Answers wallets' requests and tells subscribers what changed."""

    log = Logger()

    def __init__(self, clock: Any = None, random: Callable[[int], bytes] = os.urandom) -> None:
        """``clock``: an IReactorTime provider. Without one no lease is granted, and a replay is told in one go."""
        self._clock = clock
        self._random = random
        self._view: NodeView | None = None

    def setup_notification_handler(self, view: NodeView, ask: Ask = nobody) -> None:
        """Connects the handler to its node, and to the others by ``ask``. Until then every request is ``busy``."""
        self._handovers = Handovers(self._clock, ask)
        self._feeds = Feeds(view, self._clock)
        self._subscriptions = Subscriptions(view, self._feeds, self._clock, self._random)
        self._incoming = Incoming(view, self._feeds, self._clock)
        self._view = view

    @property
    def subscription_count(self) -> int:
        """Named subscriptions, over all connections."""
        return 0 if self._view is None else self._subscriptions.count

    # -- requests ------------------------------------------------------------------------------------

    def handle_message(self, client: Client, message: Any) -> None:
        """Answers one request of ``client``: one reply or one ``Error``, with the request's id."""
        if self._view is None:
            busy = Refusal(ErrorCode.BUSY, "the node is starting", retry_after_ms=1_000)
            client.send(messages.error_of(busy, message.id))
            return
        try:
            answer = self._answer(message, client, self._view)
        except Refusal as refusal:
            _refuse(client, refusal, message.id)
            return
        answer.addErrback(self._failed, client, message.id)
        answer.addErrback(lambda failure: self.log.failure("a reply could not be sent", failure=failure))

    def _failed(self, failure: Failure, client: Client, request_id: int | None) -> None:
        refusal = failure.value
        if not isinstance(refusal, Refusal):
            self.log.failure("a request failed", failure=failure)
            refusal = Refusal(ErrorCode.INTERNAL, "the node failed to answer")
        _refuse(client, refusal, request_id)

    def connection_lost(self, client: Client) -> None:
        """Forgets everything ``client`` watched, but for what it may take up again with a token."""
        if self._view is not None:
            self._subscriptions.connection_lost(client)

    @singledispatchmethod
    def _answer(self, message: Any, client: Client, view: NodeView) -> Deferred[None]:
        raise Refusal(ErrorCode.UNSUPPORTED, f"{type(message).__name__} is no request")

    @_answer.register
    def _transaction_broadcast(
        self, message: messages.TransactionBroadcast, client: Client, view: NodeView
    ) -> Deferred[None]:
        tx = message.tx
        feed = self._feeds.of(client)
        if len(feed.payments) >= limits.REQUESTS:
            raise over("requests", limits.REQUESTS, "payments of one connection that are not final")
        if tx.txid not in feed.payments:
            require_room(feed, len(tx.outpoints))
        payment = self._feeds.watch_payment(feed, tx)

        def refused(failure: Failure) -> Failure:
            payment.asked -= 1
            if not payment.asked and feed.payments.get(tx.txid) is payment:
                self._feeds.unwatch_payment(client, tx.txid)
            return failure

        def accepted(reply: messages.TransactionAccepted) -> Deferred[None]:
            client.send(messages.TransactionAccepted(id=message.id, txid=reply.txid))
            return view.read(lambda: self._unwatch_if_final(client, tx, view))

        return view.submit(tx).addCallbacks(accepted, refused)

    def _unwatch_if_final(self, client: Client, tx: Transaction, view: NodeView) -> None:
        coin = view.coin(tx.outpoints[0])
        if coin is not None and isinstance(coin.state, SpentFinalized | Confirmed):
            self._feeds.unwatch_payment(client, tx.txid)

    @_answer.register
    def _query(self, message: messages.UTXOStateQuery, client: Client, view: NodeView) -> Deferred[None]:
        def look() -> None:
            states = tuple(item_state(item, view) for item in message.outpoints)
            client.send(messages.UTXOStateResponse(id=message.id, states=states))

        return view.read(look)

    @_answer.register
    def _subscribe(self, message: messages.UTXOSubscribe, client: Client, view: NodeView) -> Deferred[None]:
        items: set[Watched] = set()
        for item in message.outpoints:
            outpoint = parse_outpoint(item)
            if outpoint is None:
                raise Refusal(ErrorCode.BAD_FIELD, f"not an outpoint: {str(item)[:100]!r}")
            items.add(outpoint)
        items.update(require_address(address, view.genesis.params) for address in message.addresses)
        if not (items or message.knows_cursors or message.statuses):
            raise Refusal(ErrorCode.BAD_FIELD, "a subscription names at least one outpoint or address")
        if len(items) > limits.FILTER:
            raise over("filter", limits.FILTER, "outpoints and addresses of one request")
        feed = self._feeds.of(client)

        def subscribe(items: set[Watched]) -> Deferred[None]:
            def begin() -> None:
                self._subscriptions.subscribe(feed, message, items)
                self._incoming.begun(feed, message.subscriber_id)

            return self._feeds.when_live(feed, begin)

        if message.owner is not None:
            self._require_owner(message, message.owner, client, view)
            if not self._subscriptions.is_here(message):
                return self._handed_over(message, client, view).addCallback(subscribe)
        return subscribe(items)

    def _require_owner(
        self, message: messages.UTXOSubscribe, owner: messages.Owner, client: Client, view: NodeView
    ) -> None:
        named = message.outpoints or message.addresses or message.hold
        if message.token is not None or (owner.filter is not None and named):
            raise Refusal(ErrorCode.BAD_FIELD, "what is taken up by its owner needs neither items nor a token")
        require_shown(owner, client, view.genesis, view.node_key, message.subscriber_id)
        account = getattr(client, "account", None)
        if owner.filter is not None and account is not None:
            account.pay(self._subscriptions.price(message))

    def _handed_over(
        self, message: messages.UTXOSubscribe, client: Client, view: NodeView
    ) -> Deferred[set[Watched]]:
        """The items of a lease, from the node that its owner was with."""
        node = None if message.since is None else message.since.node
        if node in (None, view.node_key):
            raise not_found()
        fetched = self._handovers.fetch(node, client.challenge, message)  # type: ignore[attr-defined]

        def pay(items: set[Watched]) -> set[Watched]:
            charge(client, message, costs.of_filter(len(items)))
            return items

        return fetched.addCallback(pay)

    @_answer.register
    def _get_lease(self, message: messages.GetLease, client: Client, view: NodeView) -> Deferred[None]:
        node = getattr(client, "node_key", None)  # proven: nobody else may ask this
        return view.read(lambda: client.send(self._subscriptions.give(message, node or "")))

    @_answer.register
    def _unsubscribe(self, message: messages.UTXOUnsubscribe, client: Client, view: NodeView) -> Deferred[None]:
        feed = self._feeds.of(client)

        def unsubscribe() -> None:
            self._subscriptions.unsubscribe(feed, message.subscriber_id)
            client.send(messages.UTXOUnsubscribed(id=message.id, subscriber_id=message.subscriber_id))

        return self._feeds.when_live(feed, unsubscribe)

    @_answer.register
    def _address_utxos(self, message: messages.GetAddressUTXOs, client: Client, view: NodeView) -> Deferred[None]:
        address = require_address(message.address, view.genesis.params)

        def look() -> None:
            coins, more = view.address_coins(address, message.after, message.limit, spent=message.spent)
            client.send(
                messages.AddressUTXOs(
                    id=message.id,
                    address=address,
                    cursor=Cursor(view.node_key, view.position()),
                    coins=tuple(coin_state(outpoint, coin) for outpoint, coin in coins),
                    more=more,
                )
            )

        return view.read(look)

    @_answer.register
    def _get_transaction(self, message: messages.GetTransaction, client: Client, view: NodeView) -> Deferred[None]:
        return self._look_up(message, client, view, lambda: _known(view.transaction(message.txid), message.txid))

    @_answer.register
    def _get_trace(self, message: messages.GetTrace, client: Client, view: NodeView) -> Deferred[None]:
        return self._look_up(message, client, view, lambda: _known(view.trace(message.txid), message.txid))

    @_answer.register
    def _get_proof(self, message: messages.GetFinalityProof, client: Client, view: NodeView) -> Deferred[None]:
        def look() -> messages.FinalityProofs:
            info = _known(view.transaction(message.txid), message.txid)
            if info.proof is None:
                by_block = info.status == "final" and info.height is not None
                why = f"is proved by block {info.height}: see GetTransaction" if by_block else f"is {info.status}"
                raise Refusal(ErrorCode.NOT_FOUND, f"{message.txid} {why}", txid=message.txid)
            return messages.FinalityProofs(proofs=(info.proof,))

        return self._look_up(message, client, view, look)

    def _look_up(
        self, message: messages.Request, client: Client, view: NodeView, look: Callable[[], Any]
    ) -> Deferred[None]:
        """Answers with what ``look`` finds. It may have to read a block again, which no question shows."""

        def answer() -> None:
            before = view.work
            try:
                reply = look()
            finally:
                charge(client, message, view.work - before)
            client.send(msgspec.structs.replace(reply, id=message.id))

        return view.read(answer)

    @_answer.register
    def _cancel(self, message: messages.TransactionCancel, client: Client, view: NodeView) -> Deferred[None]:
        def heeded(reply: messages.CancelAccepted) -> None:
            client.send(messages.CancelAccepted(id=message.id, txid=reply.txid))

        return view.cancel(message).addCallback(heeded)

    @_answer.register
    def _get_evidence(self, message: messages.GetEvidence, client: Client, view: NodeView) -> Deferred[None]:
        def look() -> None:
            found = view.evidence(message.since, limits.EVIDENCE_PAGE + 1)
            page = tuple(found[: limits.EVIDENCE_PAGE])
            more = len(found) > len(page)
            reply = messages.EvidenceFound(id=message.id, evidence=page, next=message.since + len(page), more=more)
            client.send(reply)

        return view.read(look)

    @_answer.register
    def _get_genesis(self, message: messages.GetGenesis, client: Client, view: NodeView) -> Deferred[None]:
        return view.read(lambda: client.send(messages.GenesisDocument(id=message.id, genesis=view.genesis)))

    @_answer.register
    def _get_info(self, message: messages.GetInfo, client: Client, view: NodeView) -> Deferred[None]:
        return view.read(lambda: client.send(msgspec.structs.replace(view.info(), id=message.id)))

    @_answer.register
    def _get_budget(self, message: messages.GetBudget, client: Client, view: NodeView) -> Deferred[None]:
        account = getattr(client, "account", None)
        if account is None:
            raise Refusal(ErrorCode.UNSUPPORTED, "nobody counts what this connection asks")
        if message.key is not None:
            account.use(message.key)
        rate, burst = account.rate
        key = None if account.quota is None else account.quota.name
        client.send(messages.Budget(id=message.id, key=key, cost_per_second=rate, burst=burst, left=account.left))
        return succeed(None)

    # -- notifications -------------------------------------------------------------------------------

    def broadcast_state_notification(
        self,
        transitions: Iterable[Transition],
        proofs: Mapping[str, KeptProof],
        blocks: Sequence[DecidedBlock] = (),
    ) -> None:
        """Tells each connection each transition it watches once, in order; encoded once for all of them."""
        if self._view is not None:
            transitions = list(transitions)
            self._feeds.tell(transitions, proofs, blocks)
            self._incoming.tell(transitions, blocks)

    def broadcast_seen(self, transactions: Iterable[Transaction]) -> None:
        """Tells whom they would pay of transactions that are valid here and not locked; also that they have a rival."""
        if self._view is not None:
            self._incoming.seen(transactions)


def _refuse(client: Client, refusal: Refusal, request_id: int | None) -> None:
    refuse = getattr(client, "refuse", None)
    if refuse is None:
        client.send(messages.error_of(refusal, request_id))
    else:
        refuse(refusal, request_id)


def _known(found: T | None, txid: str) -> T:
    if found is None:
        raise Refusal(ErrorCode.NOT_FOUND, f"no transaction {txid} is known here", txid=txid)
    return found

