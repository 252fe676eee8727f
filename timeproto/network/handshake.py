"""The signed handshake (protocol §7), as a state machine without I/O.

The dialling side sends ``Handshake``; the accepting side answers ``Handshake`` and ``HandshakeAck``; a dialling
masternode then sends its own ``HandshakeAck``. The signature covers which side signs, both nonces, both keys and,
under TLS, the channel's exporter value (RFC 9266), so that it cannot be replayed, reflected, or carried over to another
channel.

A wallet has no key: 32 zero bytes stand for it in what is signed, and it sends no ``HandshakeAck``.
"""

from __future__ import annotations

from enum import Enum, auto

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.canonical import domain, sized
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey, verify
from timeproto.network.budget import BUDGETS
from timeproto.params import PROTOCOL_VERSION
from timeproto.wire.messages import Handshake, HandshakeAck

CURSORS = "cursors"
"""Subscriptions with cursors, leases and watermarks."""
STATUSES = "statuses"
"""Subscriptions that hear of payments on their way: ``TransactionStatus``."""
OWNERS = "owners"
"""Leases that belong to a key, and not to who has a token; masternodes hand them on to each other."""
ZSTD = "zstd"
"""Frames may be compressed (wire.compression)."""
CAPABILITIES: tuple[str, ...] = (BUDGETS, CURSORS, OWNERS, STATUSES, ZSTD)
"""Optional features this version speaks."""

_NO_KEY = "00" * 32


class State(Enum):
    """What the machine waits for."""

    HANDSHAKE = auto()
    ACK = auto()
    DONE = auto()


class OwnKey(Exception):
    """The other end proved that it has our own key: two processes run with it."""


class HandshakeMachine:
    """One side of one handshake. Feed it what arrives; send what it returns; ``done`` when the peer is proven."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        key: SigningKey | None,
        dialled: bool,
        nonce: bytes,
        binding: bytes,
        listen: str | None = None,
        expected_key: str | None = None,
        capabilities: tuple[str, ...] = CAPABILITIES,
    ) -> None:
        """``key`` None for a wallet; ``dialled`` if this side opened the connection; ``binding``: tls.channel_binding.

        ``expected_key`` pins the key the other end must prove; without it a masternode's must be in the set.
        """
        self._genesis = genesis
        self._key = key
        self._dialled = dialled
        self._binding = binding
        self._expected_key = expected_key
        self.state = State.HANDSHAKE
        self.theirs: Handshake | None = None
        self.ours = Handshake(
            version=PROTOCOL_VERSION,
            network=genesis.network,
            genesis=genesis.hash,
            role="wallet" if key is None else "masternode",
            node_key=None if key is None else key.public_hex,
            listen=listen,
            capabilities=capabilities,
            nonce=nonce.hex(),
        )

    @property
    def done(self) -> bool:
        return self.state is State.DONE

    @property
    def challenge(self) -> str | None:
        """The nonce that the other end was given here, and nowhere else; None until it was greeted."""
        return self.ours.nonce if self.theirs is not None else None

    @property
    def peer_key(self) -> str | None:
        """The other end's key; proven once ``done``."""
        return None if self.theirs is None else self.theirs.node_key

    def begin(self) -> list[Handshake | HandshakeAck]:
        """What the dialling side sends first."""
        return [self.ours] if self._dialled else []

    def hear_handshake(self, theirs: Handshake) -> list[Handshake | HandshakeAck]:
        """The other side's words; what to answer. Raises :class:`Refusal` if they do not fit."""
        if self.state is not State.HANDSHAKE:
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "a second Handshake")
        self._check(theirs)
        self.theirs = theirs
        self.state = State.ACK
        if self._dialled:
            return []
        answer: list[Handshake | HandshakeAck] = [self.ours, self._sign()]
        if theirs.role == "wallet":
            self.state = State.DONE
        return answer

    def hear_ack(self, ack: HandshakeAck) -> list[Handshake | HandshakeAck]:
        """The other side's proof; what to answer. Afterwards the machine is ``done``."""
        if self.state is not State.ACK or self.theirs is None:
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "a HandshakeAck before its Handshake")
        signed = self._signed_bytes(by_dialler=not self._dialled)
        key = bytes.fromhex(self.theirs.node_key or _NO_KEY)
        if not verify(key, signed, bytes.fromhex(ack.signature)):
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "the signature does not prove the key on this channel")
        self.state = State.DONE
        if self._key is not None and self.theirs.node_key == self._key.public_hex:
            raise OwnKey("another process runs with this node's key")
        return [self._sign()] if self._dialled and self._key is not None else []

    def _check(self, theirs: Handshake) -> None:
        genesis = self._genesis
        if theirs.version != PROTOCOL_VERSION:
            spoken = PROTOCOL_VERSION
            raise Refusal(ErrorCode.WRONG_VERSION, f"this node speaks version {spoken}", value=spoken)
        if theirs.network != genesis.network:
            raise Refusal(ErrorCode.WRONG_NETWORK, f"this node is of {genesis.network}", network=genesis.network)
        if theirs.genesis != genesis.hash:
            raise Refusal(ErrorCode.WRONG_GENESIS, "this node has another genesis", genesis=genesis.hash)
        if theirs.nonce == self.ours.nonce:
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "the nonce is not fresh")
        if theirs.role == "wallet":
            if self._dialled or theirs.node_key is not None:
                raise Refusal(ErrorCode.BAD_HANDSHAKE, "a wallet dials, and has no node key")
            return
        if theirs.node_key is None:
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "a masternode has a node key")
        if self._expected_key is not None and theirs.node_key != self._expected_key:
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "the node has another key than the one expected")
        if theirs.node_key not in genesis.masternode_set:
            raise Refusal(ErrorCode.NOT_A_MASTERNODE, "the key is not in the masternode set", key=theirs.node_key)

    def _sign(self) -> HandshakeAck:
        assert self._key is not None  # a wallet never gets here: it dials, and sends no proof
        return HandshakeAck(signature=self._key.sign(self._signed_bytes(by_dialler=self._dialled)).hex())

    def _signed_bytes(self, *, by_dialler: bool) -> bytes:
        assert self.theirs is not None
        dialler, acceptor = (self.ours, self.theirs) if self._dialled else (self.theirs, self.ours)
        fields = (dialler.nonce, acceptor.nonce, dialler.node_key or _NO_KEY, acceptor.node_key or _NO_KEY)
        side = b"D" if by_dialler else b"A"
        raw = b"".join(bytes.fromhex(field) for field in fields)
        return domain("handshake", self._genesis.hash) + side + raw + sized(self._binding)


