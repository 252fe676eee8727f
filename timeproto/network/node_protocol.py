"""A node's connections, accepted or dialled: one class, one handshake, one dispatcher (protocol §7)."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.asker import Asker
from timeproto.network.handshake import HandshakeMachine, OwnKey
from timeproto.network.house import House
from timeproto.network.protocol import MessageProtocol
from timeproto.network.requests import NotProven, quoted
from timeproto.network.tls import channel_binding
from timeproto.wire import messages
from timeproto.wire.messages import Role


class Dispatcher(Protocol):
    """Where messages go, whoever dialled; and who is told of links between masternodes."""

    def message_received(self, connection: NodeProtocol, message: messages.AnyMessage) -> None: ...

    def connection_lost(self, connection: NodeProtocol) -> None: ...

    def link_up(self, connection: NodeProtocol) -> None: ...

    def link_down(self, connection: NodeProtocol) -> None: ...


class Switchboard(Protocol):
    """What a connection asks of the peer manager."""

    house: House

    def machine(self, *, dialled: bool, binding: bytes) -> HandshakeMachine: ...

    def is_own_nonce(self, nonce: str) -> bool: ...

    def opened(self, connection: NodeProtocol) -> None: ...

    def proven(self, connection: NodeProtocol) -> None: ...

    def dialled_self(self, connection: NodeProtocol) -> None: ...

    def own_key_elsewhere(self, connection: NodeProtocol) -> None: ...

    def handle_peer_message(self, connection: NodeProtocol, message: messages.AnyMessage) -> None: ...

    def lost(self, connection: NodeProtocol) -> None: ...


class NodeProtocol(MessageProtocol):
    """One connection of a node. ``node_key`` is set once the other end has proven to be that masternode; from then on
    it asks what wallets ask as ``asker``."""

    def __init__(
        self, clock: Any, switchboard: Switchboard, *, dialled: str | None = None, crowded: bool = False
    ) -> None:
        """``dialled``: the address, if this side opened the connection. ``crowded``: the house is full; the connection
        may stay only if it proves to be a masternode's."""
        super().__init__(clock)
        self.direction: Literal["inbound", "outbound"] = "inbound" if dialled is None else "outbound"
        self.node_key: str | None = None
        self.asker: Asker | None = None
        self.announced: str | None = None
        self.dialled_address = dialled
        self.opened_at = clock.seconds()
        self._switchboard = switchboard
        self._crowded = crowded
        self._machine: HandshakeMachine | None = None
        self._handshaken: list[Deferred[None]] = []
        self._asks = False
        self._ended_by: str | None = None
        self.must_speak_first = dialled is None
        if dialled is not None:
            self.remote_role = Role.NODE

    def __repr__(self) -> str:
        """With the masternode's key once it is proven: seven of them may share a host."""
        text = super().__repr__()
        return text if self.node_key is None else f"{text[:-1]} {self.node_key[:8]}>"

    @property
    def challenge(self) -> str | None:
        """The nonce that this connection's other end was given; None if there was no handshake."""
        return None if self._machine is None else self._machine.challenge

    def knows(self, capability: str) -> bool:
        """True if the other end named it."""
        theirs = None if self._machine is None else self._machine.theirs
        return theirs is not None and capability in theirs.capabilities

    def is_greeted(self) -> bool:
        if self._crowded:
            return False
        if self._machine is None:
            return self.direction == "inbound" and super().is_greeted()
        return self._machine.done

    def when_handshaken(self) -> Deferred[None]:
        """Fires when the other end is proven; fails with :class:`NotProven` if it leaves before."""
        waiting: Deferred[None] = Deferred()
        if self._machine is not None and self._machine.done:
            waiting.callback(None)
        else:
            self._handshaken.append(waiting)
        return waiting

    def held_back(self) -> float:
        """Whoever is about to prove that it is a masternode, and nothing else, is read at once, whatever its neighbours
        owe."""
        is_proving = self._machine is not None and not self._machine.done
        return 0.0 if is_proving and not self._asks else super().held_back()

    def stop_paying(self) -> None:
        account, self.account = self.account, None
        if account is not None:
            account.close()

    def made(self) -> None:
        self.opened_at = self._clock.seconds()
        self._switchboard.opened(self)

    def ready(self) -> None:
        if self.direction == "outbound":
            self._machine = self._switchboard.machine(dialled=True, binding=channel_binding(self.transport))
            for message in self._machine.begin():
                self.send(message)

    def spoken(self) -> None:
        super().spoken()
        if self.direction == "inbound" and not self._crowded:
            self._crowded = not self._switchboard.house.heard(self)

    def message_received(self, message: messages.AnyMessage) -> None:
        if isinstance(message, messages.Handshake):
            self._hear_handshake(message)
        elif isinstance(message, messages.HandshakeAck):
            self._hear_ack(message)
        elif self.direction == "outbound" and self.node_key is None:
            raise Refusal(ErrorCode.NOT_AUTHORISED, "a node that was dialled proves its key first")
        elif self._crowded:
            raise self._full()
        else:
            self._asks = True
            self._switchboard.handle_peer_message(self, message)

    def _full(self) -> Refusal:
        refusal = Refusal(
            ErrorCode.BUSY,
            "this node has as many connections as it takes",
            limit="connections",
            value=self._switchboard.house.room,
            retry_after_ms=10_000,
        )
        self.close(refusal)
        return refusal

    def _hear_handshake(self, message: messages.Handshake) -> None:
        if self._machine is None:
            self._machine = self._switchboard.machine(dialled=False, binding=channel_binding(self.transport))
        for answer in self._machine.hear_handshake(message):
            self.send(answer)
        self.hear_capabilities(message.capabilities)
        self.announced = message.listen
        if self._machine.done and self._crowded:
            self._full()  # a wallet

    def _hear_ack(self, message: messages.HandshakeAck) -> None:
        if self._machine is None:
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "a HandshakeAck before its Handshake")
        try:
            answers = self._machine.hear_ack(message)
        except OwnKey:
            # Only now it is proven: who merely repeats our nonces, or our key, is neither us nor another process.
            if self._machine.theirs is not None and self._switchboard.is_own_nonce(self._machine.theirs.nonce):
                self._switchboard.dialled_self(self)
                self.abort()
                return
            self._switchboard.own_key_elsewhere(self)
            raise Refusal(ErrorCode.IDENTITY_CONFLICT, "two processes have this masternode's key") from None
        for answer in answers:
            self.send(answer)
        self.node_key = self._machine.peer_key
        self.remote_role = Role.MASTERNODE
        self._crowded = False
        self.out_queue = limits.OUT_QUEUE_PEER
        self.raise_frame_limit()
        self.stop_paying()
        self._switchboard.proven(self)
        waiting, self._handshaken = self._handshaken, []
        for each in waiting:
            each.callback(None)

    def complained(self, refusal: Refusal) -> None:
        self._ends(f"it says {quoted(refusal)}")
        if self.direction == "inbound" or self.node_key is not None:
            super().complained(refusal)
        else:  # where it is kept dialled, that is written down there
            self.log.debug("{who} complains: {said}", who=self, said=quoted(refusal))

    def close(self, refusal: Refusal | None = None) -> None:
        if refusal is not None:
            self._ends(f"this node says {refusal.code.value}")
        super().close(refusal)

    def abort(self) -> None:
        self._ends("this node cut it off")
        super().abort()

    def refuse(self, refusal: Refusal, request_id: int | None = None) -> None:
        if refusal.policy.closes:
            self._ends(f"this node says {refusal.code.value}")
        super().refuse(refusal, request_id)

    def _ends(self, why: str) -> None:
        """The first reason is the one: what follows, follows from it."""
        if self._ended_by is None:
            self._ended_by = why

    def gone(self, reason: Any) -> None:
        why = self._ended_by or self._how_it_left(reason)
        waiting, self._handshaken = self._handshaken, []
        for each in waiting:
            each.errback(NotProven(f"{self.peer_host} was not proven to be a masternode: {why}"))
        self._switchboard.lost(self)

    def _how_it_left(self, reason: Any) -> str:
        if reason is not None and reason.check(SSL.Error):
            return "it does not speak TLS, or not as this node does"
        if not self._spoken and not ISSLTransport.providedBy(self.transport):
            return "it hung up without a word, as one that speaks TLS does, or has no room"
        return "it hung up"


class NodeFactory(Factory):
    """Makes the connections that come in, or those that go out to the address ``dialled``."""

    noisy = False

    def __init__(self, clock: Any, switchboard: Any, *, dialled: str | None = None) -> None:
        self._clock = clock
        self._switchboard = switchboard
        self._dialled = dialled

    def buildProtocol(self, addr: Any) -> NodeProtocol | None:
        """None (the connection is dropped) when not even masternodes could be told apart any more."""
        crowded = False
        if self._dialled is None:
            room = self._switchboard.house.door(getattr(addr, "host", ""))
            if room is None:
                return None
            crowded = not room
        return NodeProtocol(self._clock, self._switchboard, dialled=self._dialled, crowded=crowded)
