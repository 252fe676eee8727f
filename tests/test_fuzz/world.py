"""A masternode of four, whole but for its disk and its sockets, and connections to it of every kind there is.

Behind them stand what stands behind them in a node: the peer manager, the dispatcher, the bridge, the replica, the
handler of wallets, and the web port before the same handler.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from twisted.internet.testing import StringTransport

from tests.alone_node import Node
from tests.cluster import key, pay
from tests.examples import plain
from tests.test_network.test_protocol import _example as example
from tests.test_web.harness import Web
from tests.test_web.sockets import Wallet, header
from timeproto import limits
from timeproto.masternode.service import Dispatcher
from timeproto.model.block import BlockVote, BlockVoteKind, sign_block_vote
from timeproto.model.certificate import FinalityProof, signed_vote
from timeproto.model.vote import sign_batch
from timeproto.network.handshake import HandshakeMachine
from timeproto.network.node_protocol import NodeFactory
from timeproto.network.peer_manager import PeerManager
from timeproto.wire import codec, compression, messages

ROLES = ("stranger", "wallet", "masternode", "dialled", "websocket")


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    @property
    def is_ended(self) -> bool:
        return bool(self.disconnecting or self.aborted)


class Address:
    host = "127.0.0.1"


class World:
    """``say(role, payload)`` is one message and all that comes of it."""

    def __init__(self) -> None:
        self.node = Node(masternodes=4)
        self.conflicts: list[str] = []
        node = self.node
        self.peers = PeerManager(
            reactor=node.clock,
            key=key(1),
            genesis=node.genesis,
            listen="10.0.0.1:1",
            dispatcher=Dispatcher(node.integration, node.handler),
            on_identity_conflict=self.conflicts.append,
            random=lambda size: b"\x07" * size,
        )
        self.peers.startService()
        for number in (2, 3, 4):  # each is there, and holds nothing of this node's votes: it may vote
            peer = key(number).public_hex
            node.integration.link_up(peer)
            for word in (
                messages.Blocks(blocks=(), head=0),
                messages.Finalized(txids=(), next=0, head=0),
                messages.Votes(voter=key(1).public_hex),
            ):
                node.integration.handle_network_message(word, peer)
        assert node.replica.not_voting is None

    def connect(self, role: str) -> Talk:
        if role == "websocket":
            return WebSocketTalk(self)
        dialled = "10.0.0.2:1" if role == "dialled" else None
        protocol: Any = NodeFactory(self.node.clock, self.peers, dialled=dialled).buildProtocol(Address())
        talk = FrameTalk(self, protocol)
        if role in ("wallet", "masternode"):
            owner = key(2) if role == "masternode" else None
            machine = HandshakeMachine(
                genesis=self.node.genesis, key=owner, dialled=True, nonce=b"\x05" * 32, binding=b""
            )
            for message in machine.begin():
                talk.say(codec.encode(message))
            for answer in talk.heard():
                if isinstance(answer, messages.Handshake):
                    machine.hear_handshake(answer)
                elif isinstance(answer, messages.HandshakeAck):
                    for message in machine.hear_ack(answer):
                        talk.say(codec.encode(message))
            talk.heard()
        return talk


    def words(self) -> dict[str, list[dict[str, Any]]]:
        """Good messages of every type, as JSON: those of the docs, and true ones where these get further."""
        node = self.node
        genesis, voter = node.genesis, key(2)
        coins = [(outpoint, output.amount, node.wallets[0]) for outpoint, output in genesis.coins()]
        tx = pay(genesis, coins[:2], [(genesis.allocations[4].address, 1_000_000)])
        masternodes = genesis.masternode_set.hash
        votes = [sign_batch(key(number), genesis.hash, masternodes, 0, commit=[tx.txid]) for number in (2, 3, 4)]
        proof = FinalityProof(tx.txid, masternodes, tuple(signed_vote(batch, 0) for batch in votes))
        prevote = BlockVote(BlockVoteKind.PREVOTE, voter.public_hex, masternodes, 1, 0, None, None, "0" * 128)
        address, outpoint = genesis.allocations[0].address, str(tx.outpoints[0])
        cursor = messages.Cursor(key(1).public_hex, 0)
        change = messages.StateChange(tx.outpoints[0], "Unspent", "Unspent", 1, voter.public_hex)
        true = (
            messages.TransactionBroadcast(id=1, tx=tx),
            messages.Transactions(transactions=(tx,), proofs=(proof,)),
            sign_batch(voter, genesis.hash, masternodes, 0, lock=[tx.txid]),
            messages.Votes(batches=tuple(votes), proofs=(proof,)),
            messages.FinalityProofs(proofs=(proof,)),
            messages.GetTransactions(txids=(tx.txid,)),
            messages.UTXOStateNotification(notification=change, cursor=cursor, output=tx.outputs[0], proof=proof),
            messages.UTXOStateQuery(id=1, outpoints=(outpoint, plain(tx.outpoints[1]))),
            messages.UTXOSubscribe(id=1, subscriber_id="w", outpoints=(outpoint,), addresses=(address,), since=cursor,
                                   ttl_ms=60_000),
            messages.UTXOSubscribe(id=1, subscriber_id="w", addresses=(address,), statuses=True),
            messages.GetAddressUTXOs(id=1, address=address, after=tx.outpoints[0], limit=3),
            messages.GetTransaction(id=1, txid=tx.txid),
            messages.GetTrace(id=1, txid=tx.txid),
            sign_block_vote(voter, genesis.hash, prevote),
        )  # fmt: skip
        found = {name: [json.loads(example(cls))] for name, cls in messages.CATALOGUE.items()}
        for each in true:
            found[type(each).__name__].append(plain(each))
        return found


class Talk:
    """One connection to the node."""

    def say(self, payload: bytes) -> None: ...

    def heard(self) -> list[Any]:
        """What the node has said since, as messages: what it cannot have said itself does not decode."""
        raise NotImplementedError

    @property
    def is_closed(self) -> bool:
        raise NotImplementedError


class FrameTalk(Talk):
    def __init__(self, world: World, protocol: Any) -> None:
        self._clock = world.node.clock
        self._protocol = protocol
        self._wire = Transport()
        protocol.makeConnection(self._wire)

    @property
    def kept(self) -> int:
        """Bytes that wait to be a frame."""
        return len(self._protocol._buffer)

    def say(self, payload: bytes) -> None:
        self.raw(struct.pack("!I", len(payload)) + payload)

    def raw(self, data: bytes) -> None:
        self._protocol.dataReceived(data)
        self._clock.advance(0)

    def heard(self) -> list[Any]:
        raw, found = self._wire.value(), []
        self._wire.clear()
        while raw:
            (size,) = struct.unpack_from("!I", raw)
            payload, raw = raw[4 : 4 + size], raw[4 + size :]
            if compression.is_squeezed(payload):
                payload = compression.expand(payload, limits.FRAME_PEER)
            found.append(codec.decode(payload))
        return found

    @property
    def is_closed(self) -> bool:
        return self._wire.is_ended


class WebSocketTalk(Talk):
    def __init__(self, world: World) -> None:
        self._clock = world.node.clock
        self._web = Web(sink=world.node.handler)
        self._wallet = Wallet(self._web)
        self._wallet.take()

    def say(self, payload: bytes) -> None:
        self._wallet.raw(header(1, len(payload)) + payload)
        self._clock.advance(0)
        self._web.clock.advance(0)
        self._wallet.hear()

    def heard(self) -> list[Any]:
        return [codec.decode(json.dumps(each).encode()) for each in self._wallet.take()]

    @property
    def is_closed(self) -> bool:
        return self._wallet.closed is not None or self._wallet.connection.wire.is_ended
