"""The masternodes this node is linked with: dialling, accepting, one link for each pair (protocol §7).

Everybody dials everybody; of two links with one peer the one survives that the lower key dialled, if both are young,
and otherwise the newer one, since then the older is what a half-dead connection looks like. Both ends judge by the
same rule after the handshake, so they agree without a word.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from timeproto import limits
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.network import costs
from timeproto.network.asker import Asker
from timeproto.network.budget import Budgets
from timeproto.network.dialler import Diallers
from timeproto.network.discovery import AddressBook, Bootstrap, is_wildcard, parse_address
from timeproto.network.fanout import Shared
from timeproto.network.greeting import GreetedEndpoint
from timeproto.network.handshake import CAPABILITIES, HandshakeMachine
from timeproto.network.house import House
from timeproto.network.node_protocol import Dispatcher, NodeFactory, NodeProtocol
from timeproto.network.record import Record
from timeproto.network.tls import KeyedConnectionCreator, TLS4ServerEndpoint
from timeproto.wire import codec, messages
from timeproto.wire.messages import PeerInfo

NONCE_SIZE = 32
BOOTSTRAP_RETRY = 60.0
BOOTSTRAP_PATIENCE = 30.0
"""Seconds for the whole list, however slowly it drips."""


class PeerManager(MultiService):
    """Links with masternodes, and the port that they and the wallets come in by."""

    log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        key: SigningKey,
        genesis: Genesis,
        listen: str,
        dispatcher: Dispatcher,
        peers: Iterable[str] = (),
        announce: str | None = None,
        bootstrap: str | None = None,
        tls: Any = None,
        on_identity_conflict: Callable[[str], None],
        room: int | None = None,
        connect: Callable[[str, int], Any] | None = None,
        random: Callable[[int], bytes] = os.urandom,
        treq: Any = None,
        budgets: Budgets | None = None,
    ) -> None:
        """``tls``: the port's IOpenSSLContextFactory, None for no TLS. ``room``: connections, if not
        ``limits.CONNECTIONS``; masternodes have places of their own. ``connect``: (host, port) → client endpoint.
        ``budgets``: who pays for what wallets ask here and elsewhere."""
        super().__init__()
        self._reactor = reactor
        self._key = key
        self._genesis = genesis
        self._listen = listen
        self._announce = announce or (None if is_wildcard(listen) else listen)  # nobody can dial 0.0.0.0
        self._dispatcher = dispatcher
        self._configured = tuple(peers)
        self._bootstrap = None if bootstrap is None else Bootstrap(bootstrap, treq or _treq())
        self._tls = tls
        self._on_identity_conflict = on_identity_conflict
        self._connect = connect or self._endpoint
        self._random = random
        self._book = AddressBook(genesis.masternode_set.keys)
        self._diallers = Diallers(reactor, self._greeted, lambda: int.from_bytes(random(4), "big") / 2**32)
        self._connections: dict[NodeProtocol, None] = {}
        self._budgets = budgets or Budgets(reactor)
        self.house = House(self._budgets, reserved=2 * len(genesis.masternode_set), room=room)
        self._secret = random(NONCE_SIZE)
        self.record = Record(reactor, genesis.masternode_set)
        self._port: Any = None
        self._bootstrapping: Any = None
        self._fetching: Deferred[None] | None = None
        self._emptied: list[Deferred[None]] = []
        self.links: dict[str, NodeProtocol] = {}

    # -- service -------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Opens the port; :class:`ConfigurationError` if it cannot be had."""
        host, port = parse_address(self._listen)
        try:
            self._port = await self._server_endpoint(host, port).listen(NodeFactory(self._reactor, self))
        except (CannotListenError, OSError) as error:
            raise ConfigurationError(f"{self._listen} cannot be listened on: {error}") from None

    def _server_endpoint(self, host: str, port: int) -> Any:
        if self._tls is None:
            return TCP4ServerEndpoint(self._reactor, port, limits.LISTEN_QUEUE, host)
        return TLS4ServerEndpoint(self._reactor, port, self._tls, host)

    def startService(self) -> None:
        super().startService()
        for address in self._configured:
            self.dial(address)
        self._fetch_bootstrap()

    def stopService(self) -> Deferred[None]:
        """Says ``going_away`` to everybody and returns when all are gone, at most ``limits.CLOSE`` seconds later."""
        if self._bootstrapping is not None and self._bootstrapping.active():
            self._bootstrapping.cancel()
        stopping = [maybeDeferred(super().stopService)]
        if self._fetching is not None:
            self._fetching.cancel()
        if self._port is not None:
            stopping.append(maybeDeferred(self._port.stopListening))
        for connection in list(self._connections):
            connection.close(Refusal(ErrorCode.GOING_AWAY, "this node stops"))
        stopping += self._diallers.stop()  # after the goodbyes: it would close its connections without a word
        if self._connections:
            emptied: Deferred[None] = Deferred()
            self._emptied.append(emptied)
            stopping.append(emptied)
        done: Deferred[None] = DeferredList(stopping).addCallback(lambda _: None)
        return done

    def _fetch_bootstrap(self) -> None:
        if self._bootstrap is None:
            return

        fetching = Deferred.fromCoroutine(self._bootstrap.fetch())
        self._fetching = fetching.addTimeout(BOOTSTRAP_PATIENCE, self._reactor).addCallbacks(
            self._hear_bootstrap, lambda failure: self.log.failure("the bootstrap list failed", failure=failure)
        )

    def _hear_bootstrap(self, addresses: list[str]) -> None:
        self._fetching = None
        for address in addresses:
            self.dial(address)
        if self.running and not self.links:
            self._bootstrapping = self._reactor.callLater(BOOTSTRAP_RETRY, self._fetch_bootstrap)

    # -- dialling ------------------------------------------------------------------------------------

    def dial(self, address: str) -> None:
        """Keep ``address`` dialled from now on, with pauses that grow to ``limits.RECONNECT_MAX``."""
        if self.running and address not in (self._listen, self._announce):
            self._diallers.keep(address)

    def _greeted(self, address: str) -> GreetedEndpoint:
        factory = NodeFactory(self._reactor, self, dialled=address)
        return GreetedEndpoint(self._connect(*parse_address(address)), factory, self._greet)

    def _greet(self, connection: NodeProtocol) -> Deferred[None]:
        """A dial has succeeded when our first question is answered: who refuses us does so after our proof."""
        return connection.when_handshaken().addCallback(lambda _: self._ask_for_peers(connection))

    def _endpoint(self, host: str, port: int) -> Any:
        endpoint = HostnameEndpoint(self._reactor, host, port, timeout=limits.HANDSHAKE)
        return endpoint if self._tls is None else wrapClientTLS(KeyedConnectionCreator(), endpoint)

    # -- what connections ask (node_protocol.Switchboard) ----------------------------------------------

    def machine(
        self, *, dialled: bool, binding: bytes, capabilities: tuple[str, ...] = CAPABILITIES
    ) -> HandshakeMachine:
        seed = self._random(NONCE_SIZE // 2)
        return HandshakeMachine(
            genesis=self._genesis,
            key=self._key,
            dialled=dialled,
            nonce=seed + self._mark(seed),
            binding=binding,
            listen=self._announce,
            capabilities=capabilities,
        )

    def _mark(self, seed: bytes) -> bytes:
        """The half of a nonce by which this process, and nobody else, knows it for its own without a table."""
        return blake2b(seed, digest_size=NONCE_SIZE // 2, key=self._secret).digest()

    def is_own_nonce(self, nonce: str) -> bool:
        seed, mark = bytes.fromhex(nonce[:NONCE_SIZE]), bytes.fromhex(nonce[NONCE_SIZE:])
        return compare_digest(mark, self._mark(seed))

    def opened(self, connection: NodeProtocol) -> None:
        self._connections[connection] = None
        if connection.direction == "inbound":
            self.house.enter(connection)
            cost = costs.CONNECTION if self._tls is None else costs.TLS
            connection.account = self._budgets.open(connection.peer_host, cost)
            connection.hold_back(self._budgets.welcome)
        if not self.running and connection.direction == "inbound":
            connection.close(Refusal(ErrorCode.GOING_AWAY, "this node is not running"))

    def proven(self, connection: NodeProtocol) -> None:
        """A masternode stands at the other end: link with it, unless a better link exists or it is shut out."""
        key = connection.node_key
        if key is None:
            return
        connection.asker = Asker(connection, self._budgets.of_link(key))
        address = connection.dialled_address or connection.announced
        if address is not None:
            self._book.learn(key, address, proven=True)
        self._diallers.proven(connection.dialled_address, key)
        shut_out = self.record.shut_out(key)
        if shut_out:
            wait = int(shut_out * 1000)
            connection.close(Refusal(ErrorCode.BUSY, "this masternode is shut out for now", retry_after_ms=wait))
            return
        old = self.links.get(key)
        if old is not None and self._survives(old, connection):
            connection.close(Refusal(ErrorCode.DUPLICATE_LINK, "this pair of masternodes is linked already"))
        else:
            self.house.proven(connection)  # and none that is closed by us: they could fill what is kept for masternodes
            self.links[key] = connection
            if old is not None:
                self._dispatcher.link_down(old)
                old.abort()
            self._dispatcher.link_up(connection)
            if connection.direction == "inbound":
                self._ask_for_peers(connection).addErrback(lambda _: None)
        self._diallers.linked(key, self.links[key].dialled_address)

    def _survives(self, old: NodeProtocol, new: NodeProtocol) -> bool:
        """True if the older of two links with one peer is to be kept."""
        if not old.is_open or self._now() - old.opened_at >= limits.HANDSHAKE:
            return False
        lower = min(self._key.public_hex, old.node_key or "")
        return self._who_dialled(old) == lower and self._who_dialled(new) != lower

    def _who_dialled(self, connection: NodeProtocol) -> str | None:
        return self._key.public_hex if connection.direction == "outbound" else connection.node_key

    def dialled_self(self, connection: NodeProtocol) -> None:
        """An address turned out to be our own: it is never dialled again."""
        self._diallers.found_self(connection.dialled_address)

    def own_key_elsewhere(self, connection: NodeProtocol) -> None:
        self._on_identity_conflict(f"another process at {connection.peer_host} runs with this node's key")

    def handle_peer_message(self, connection: NodeProtocol, message: messages.AnyMessage) -> None:
        """Questions about peers are answered here; everything else is the dispatcher's."""
        if isinstance(message, messages.GetPeers):
            connection.send(messages.Peers(id=message.id, peers=self._book.peers()))
        elif isinstance(message, messages.Peers | messages.LeaseFilter):
            pass  # nobody asked, or asked too long ago
        elif isinstance(message, messages.UTXOStateNotification):
            self.handle_utxo_message(message, connection)
        else:
            self._dispatcher.message_received(connection, message)

    def _ask_for_peers(self, connection: NodeProtocol) -> Deferred[None]:
        """Fails if they go away before they answer; a refusal, or no answer in time, is an answer too."""
        return connection.request(messages.GetPeers()).addCallbacks(
            self._hear_peers, lambda failure: None if failure.check(Refusal) else failure
        )

    def _hear_peers(self, reply: messages.Peers) -> None:
        for peer in reply.peers:
            self._book.learn(peer.node_key, peer.address)
            self._find(peer.node_key)

    def _find(self, key: str) -> None:
        """Dials a masternode that is not linked where the book says, news or not: it may have been given up before."""
        address = self._book.address_of(key)
        unwanted = key in self.links or key == self._key.public_hex or address in (None, self._listen, self._announce)
        if self.running and address is not None and not unwanted and not self.record.shut_out(key):
            self._diallers.try_rumour(key, address)

    def lost(self, connection: NodeProtocol) -> None:
        self._connections.pop(connection, None)
        if connection.direction == "inbound":
            self.house.leave(connection)
            connection.stop_paying()
        key = connection.node_key
        if key is not None and self.links.get(key) is connection:
            del self.links[key]
            self._dispatcher.link_down(connection)
            if self.running:
                self._diallers.unlinked(key)
                self._find(key)
        self._dispatcher.connection_lost(connection)
        if not self._connections:
            emptied, self._emptied = self._emptied, []
            for each in emptied:
                each.callback(None)

    # -- talking -------------------------------------------------------------------------------------

    def send(self, key: str, message: messages.AnyMessage) -> None:
        """To one masternode, if it is linked; what it misses it asks for when it is back."""
        link = self.links.get(key)
        if link is not None:
            link.send(message)

    def broadcast(self, messages: Sequence[messages.AnyMessage]) -> None:
        """To every linked masternode, at once: they are waited for. Each message is encoded once."""
        shared = [Shared(codec.encode(message)) for message in messages]
        for link in list(self.links.values()):
            link.send_at_once(shared)

    def broadcast_utxo_notification(self, notification: messages.UTXOStateNotification) -> None:
        """A hint to every linked masternode."""
        self.broadcast([notification])

    def send_utxo_notification_to_peer(self, key: str, notification: messages.UTXOStateNotification) -> None:
        """A hint to one masternode; its proof is what counts."""
        self.send(key, notification)

    def handle_utxo_message(self, message: messages.UTXOStateNotification, connection: NodeProtocol) -> None:
        """A peer's word about a coin is handed on as a hint. Nothing a peer says changes a coin."""
        self._dispatcher.message_received(connection, message)

    # -- behaviour -----------------------------------------------------------------------------------

    def penalize(self, key: str, refusal: Refusal) -> None:
        """Counts a proven fault of a masternode; shuts it out when it has too many (network.record)."""
        if self.record.add(key, refusal.policy.penalty):
            self.log.warn("masternode {key} is shut out: {why}", key=key, why=refusal.message)
            link = self.links.get(key)
            if link is not None:
                link.close(refusal)

    def forgive(self, key: str) -> bool:
        """Forgets what a masternode did, and lets it in again; False if there was nothing."""
        known = self.record.lift(key)
        self._find(key)
        return known

    def _now(self) -> float:
        seconds: float = self._reactor.seconds()
        return seconds

    # -- looking -------------------------------------------------------------------------------------

    @property
    def wallet_count(self) -> int:
        """Connections that have spoken and found a place, but for masternodes."""
        return self.house.wallets

    def peers_info(self) -> list[PeerInfo]:
        """Every masternode of the set, with its address if known and who dialled if linked."""
        rows = []
        for key in self._genesis.masternode_set.keys:
            if key == self._key.public_hex:
                rows.append(PeerInfo(key, self._announce, "self"))
                continue
            link = self.links.get(key)
            rows.append(PeerInfo(key, self._book.address_of(key), "none" if link is None else link.direction))
        return rows


def _treq() -> Any:
    import treq  # it brings an HTTP client's worth of imports, and few nodes have a bootstrap list

    return treq
