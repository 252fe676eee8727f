"""Where wallets are served and told: queries, subscriptions, notifications (protocol §7, §8).

Every answer that speaks of coins is made at a boundary between commits (``NodeView.read``), so that a snapshot and the
notifications after it meet without a gap and without an overlap: a subscription exists from the very moment its
snapshot was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import singledispatchmethod
from typing import Any, Protocol, TypeVar

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.address import require_address
from timeproto.model.block import DecidedBlock
from timeproto.model.certificate import FinalityProof
from timeproto.model.genesis import Genesis
from timeproto.model.ledger import BlockEvidence, Coin, Evidence, Transition
from timeproto.model.transaction import Outpoint, Transaction, parse_outpoint
from timeproto.model.utxo_state import Confirmed, SpentFinalized, Unspent, holder
from timeproto.network.notifications import Proofs, notification
from timeproto.network.snapshots import coin_state, item_state, snapshot
from timeproto.wire import codec, messages
from timeproto.wire.messages import Cursor

T = TypeVar("T")

_PAYMENT = "payment "
"""Opens the name of a payment's subscriber; the space keeps it apart from every name a wallet can choose."""


class Client(Protocol):
    """A wallet's connection, as far as it is needed here. Compared by identity."""

    def send(self, message: messages.AnyMessage) -> None: ...

    def send_payload(self, payload: bytes) -> None: ...


class NodeView(Protocol):
    """What the node lets its wallets see; everything but ``submit`` and ``cancel`` is called inside ``read`` only."""

    genesis: Genesis
    node_key: str

    def read(self, question: Callable[[], T]) -> Deferred[T]: ...

    def submit(self, tx: Transaction) -> Deferred[messages.TransactionAccepted]: ...

    def cancel(self, cancel: messages.TransactionCancel) -> Deferred[messages.CancelAccepted]: ...

    def position(self) -> int: ...

    def coin(self, outpoint: Outpoint) -> Coin | None: ...

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]: ...

    def transaction(self, txid: str) -> messages.TransactionInfo | None: ...

    def evidence(self, since: int, limit: int) -> list[Evidence | BlockEvidence]: ...

    def info(self) -> messages.Info: ...

    def add_subscription(self, subscriber: Hashable, items: Iterable[Outpoint | str]) -> None: ...

    def remove_subscription(self, subscriber: Hashable) -> bool: ...

    def notify_subscribers(self, transitions: Iterable[Transition]) -> Iterator[tuple[Transition, list[Hashable]]]: ...


@attrs.frozen
class Subscriber:
    """A connection's subscription by its name; names of one connection mean nothing to another."""

    client: Client
    name: str

    @property
    def is_payment(self) -> bool:
        """True if this stands for the inputs of a payment the connection sent."""
        return self.name.startswith(_PAYMENT)


@attrs.define(eq=False)
class _Payment:
    """An undecided payment: the watcher of its inputs, and how many requests with it were not refused."""

    subscriber: Subscriber
    inputs: int
    asked: int = 0


@attrs.define(eq=False)
class _Session:
    """What one connection watches: named subscriptions, and the inputs of its own undecided payments."""

    names: dict[str, set[Outpoint | str]] = attrs.field(factory=dict)
    payments: dict[str, _Payment] = attrs.field(factory=dict)
    inputs: int = 0

    def require_room(self, more: int) -> None:
        """Raises ``over_limit`` if the connection would watch too much with ``more`` items."""
        watched = self.inputs + sum(len(items) for items in self.names.values())
        if watched + more > limits.FILTERS_CONNECTION:
            raise _over("filters_connection", limits.FILTERS_CONNECTION, "items watched by one connection")


class UTXOProtocolHandler:
    """Answers wallets' requests and tells subscribers what changed."""

    log = Logger()

    def __init__(self) -> None:
        self._view: NodeView | None = None
        self._sessions: dict[Client, _Session] = {}

    def setup_notification_handler(self, view: NodeView) -> None:
        """Connects the handler to its node. Until then every request is refused as ``busy``."""
        self._view = view

    @property
    def subscription_count(self) -> int:
        """Named subscriptions, over all connections."""
        return sum(len(session.names) for session in self._sessions.values())

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
            client.send(messages.error_of(refusal, message.id))
            return
        answer.addErrback(self._refuse, client, message.id)
        answer.addErrback(lambda failure: self.log.failure("a reply could not be sent", failure=failure))

    def _refuse(self, failure: Failure, client: Client, request_id: int | None) -> None:
        refusal = failure.value
        if not isinstance(refusal, Refusal):
            self.log.failure("a request failed", failure=failure)
            refusal = Refusal(ErrorCode.INTERNAL, "the node failed to answer")
        client.send(messages.error_of(refusal, request_id))

    def connection_lost(self, client: Client) -> None:
        """Forgets everything ``client`` watched."""
        session = self._sessions.pop(client, None)
        if session is not None and self._view is not None:
            for name in session.names:
                self._view.remove_subscription(Subscriber(client, name))
            for payment in session.payments.values():
                self._view.remove_subscription(payment.subscriber)

    def _session(self, client: Client) -> _Session:
        return self._sessions.setdefault(client, _Session())

    @singledispatchmethod
    def _answer(self, message: Any, client: Client, view: NodeView) -> Deferred[None]:
        raise Refusal(ErrorCode.UNSUPPORTED, f"{type(message).__name__} is no request")

    @_answer.register
    def _transaction_broadcast(
        self, message: messages.TransactionBroadcast, client: Client, view: NodeView
    ) -> Deferred[None]:
        tx = message.tx
        session = self._session(client)
        if len(session.payments) >= limits.REQUESTS:
            raise _over("requests", limits.REQUESTS, "payments of one connection that are not final")
        # Sending a payment is watching it: no step of it may be missed because a subscription came late.
        payment = session.payments.get(tx.txid)
        if payment is None:
            outpoints = tx.outpoints
            session.require_room(len(outpoints))
            payment = _Payment(Subscriber(client, _PAYMENT + tx.txid), len(outpoints))
            session.payments[tx.txid] = payment
            session.inputs += payment.inputs
            view.add_subscription(payment.subscriber, outpoints)
        payment.asked += 1

        def refused(failure: Failure) -> Failure:
            payment.asked -= 1
            if not payment.asked and session.payments.get(tx.txid) is payment:
                self._unwatch_payment(client, tx.txid)
            return failure

        def accepted(reply: messages.TransactionAccepted) -> Deferred[None]:
            client.send(messages.TransactionAccepted(id=message.id, txid=reply.txid))
            return view.read(lambda: self._unwatch_if_final(client, tx, view))

        return view.submit(tx).addCallbacks(accepted, refused)

    def _unwatch_if_final(self, client: Client, tx: Transaction, view: NodeView) -> None:
        coin = view.coin(tx.outpoints[0])
        if coin is not None and isinstance(coin.state, SpentFinalized | Confirmed):
            self._unwatch_payment(client, tx.txid)

    def _unwatch_payment(self, client: Client, txid: str) -> None:
        session = self._sessions.get(client)
        payment = session.payments.pop(txid, None) if session is not None else None
        if session is not None and payment is not None and self._view is not None:
            session.inputs -= payment.inputs
            self._view.remove_subscription(payment.subscriber)

    @_answer.register
    def _query(self, message: messages.UTXOStateQuery, client: Client, view: NodeView) -> Deferred[None]:
        def look() -> None:
            states = tuple(item_state(item, view) for item in message.outpoints)
            client.send(messages.UTXOStateResponse(id=message.id, states=states))

        return view.read(look)

    @_answer.register
    def _subscribe(self, message: messages.UTXOSubscribe, client: Client, view: NodeView) -> Deferred[None]:
        items: set[Outpoint | str] = set()
        for item in message.outpoints:
            outpoint = parse_outpoint(item)
            if outpoint is None:
                raise Refusal(ErrorCode.BAD_FIELD, f"not an outpoint: {str(item)[:100]!r}")
            items.add(outpoint)
        items.update(require_address(address, view.genesis.params) for address in message.addresses)
        if not items:
            raise Refusal(ErrorCode.BAD_FIELD, "a subscription names at least one outpoint or address")
        if len(items) > limits.FILTER:
            raise _over("filter", limits.FILTER, "outpoints and addresses of one request")
        name = message.subscriber_id
        session = self._session(client)

        def subscribe() -> None:
            if self._sessions.get(client) is not session:
                return  # who asked has gone, and nobody would ever remove what was made now
            if name not in session.names and len(session.names) >= limits.SUBSCRIPTIONS:
                raise _over("subscriptions", limits.SUBSCRIPTIONS, "subscriptions of one connection")
            session.require_room(len(items - session.names.get(name, set())))
            session.names.setdefault(name, set()).update(items)
            view.add_subscription(Subscriber(client, name), items)
            coins, more = snapshot(items, view)
            client.send(
                messages.UTXOSubscribed(
                    id=message.id,
                    subscriber_id=name,
                    cursor=Cursor(view.node_key, view.position()),
                    states=tuple(coin_state(outpoint, coin) for outpoint, coin in coins.items()),
                    more=more,
                )
            )

        return view.read(subscribe)

    @_answer.register
    def _unsubscribe(self, message: messages.UTXOUnsubscribe, client: Client, view: NodeView) -> Deferred[None]:
        name = message.subscriber_id

        def unsubscribe() -> None:
            session = self._sessions.get(client)
            if session is None or session.names.pop(name, None) is None:
                # The same answer for another's id as for one that never was: nobody learns of others here.
                raise Refusal(ErrorCode.NOT_FOUND, "this connection has no such subscription")
            view.remove_subscription(Subscriber(client, name))
            client.send(messages.UTXOUnsubscribed(id=message.id, subscriber_id=name))

        return view.read(unsubscribe)

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
        def look() -> None:
            info = _known(view.transaction(message.txid), message.txid)
            client.send(msgspec.structs.replace(info, id=message.id))

        return view.read(look)

    @_answer.register
    def _get_proof(self, message: messages.GetFinalityProof, client: Client, view: NodeView) -> Deferred[None]:
        def look() -> None:
            info = _known(view.transaction(message.txid), message.txid)
            if info.proof is None:
                by_block = info.status == "final" and info.height is not None
                why = f"is proved by block {info.height}: see GetTransaction" if by_block else f"is {info.status}"
                raise Refusal(ErrorCode.NOT_FOUND, f"{message.txid} {why}", txid=message.txid)
            client.send(messages.FinalityProofs(id=message.id, proofs=(info.proof,)))

        return view.read(look)

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

    # -- notifications -------------------------------------------------------------------------------

    def broadcast_state_notification(
        self,
        transitions: Iterable[Transition],
        proofs: dict[str, FinalityProof],
        blocks: Sequence[DecidedBlock] = (),
    ) -> None:
        """Tells each connection each transition it watches once, in order; encoded once for all of them.

        All events of one transaction arrive together, since a step lists them so.
        """
        if self._view is None:
            return
        finished: list[Subscriber] = []
        known = Proofs(proofs, blocks)
        for transition, subscribers in self._view.notify_subscribers(transitions):
            payload: bytes | None = None
            for client in dict.fromkeys(each.client for each in subscribers if isinstance(each, Subscriber)):
                payload = payload or codec.encode(notification(transition, self._view.node_key, known))
                client.send_payload(payload)
            payments = [each for each in subscribers if isinstance(each, Subscriber) and each.is_payment]
            finished += [each for each in payments if _is_over(each, transition)]
        for each in finished:
            self._unwatch_payment(each.client, each.name.removeprefix(_PAYMENT))


def _is_over(payment: Subscriber, transition: Transition) -> bool:
    """True if a payment's coin is spent for ever, by it or by a rival, or is free again since a block ended it."""
    if isinstance(transition.new_state, SpentFinalized):
        return True
    old = transition.old_state
    if old is None or not isinstance(transition.new_state, Unspent):
        return False
    return _PAYMENT + (holder(old) or "") == payment.name


def _known(found: messages.TransactionInfo | None, txid: str) -> messages.TransactionInfo:
    if found is None:
        raise Refusal(ErrorCode.NOT_FOUND, f"no transaction {txid} is known here", txid=txid)
    return found


def _over(limit: str, value: int, what: str) -> Refusal:
    return Refusal(ErrorCode.OVER_LIMIT, f"at most {value} {what}", limit=limit, value=value)
