"""What both sides of every connection say: who they are, that they are there, and why something was refused."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.canonical import I64, U32, Hex32, Hex64, Noun
from timeproto.params import NetworkName
from timeproto.wire.messages.base import EVERYBODY, HostPort, Message, Name, Reply, Request, Role


class Handshake(Message, frozen=True, kw_only=True):
    """Who I am and which network I speak for; both sides send one, the dialling side first.

    ``node_key`` is null from a wallet. ``listen`` is where the sender can be dialled, if it can. ``nonce``
    is fresh for each connection.

    ``{"type": "Handshake", "version": 1, "network": "devnet", "genesis": hex32, "role": "masternode",
    "node_key": hex32, "listen": "127.0.0.1:24100", "capabilities": [], "nonce": hex32}``
    """

    senders: ClassVar[frozenset[Role]] = EVERYBODY
    version: U32
    network: NetworkName
    genesis: Hex32
    role: Literal["masternode", "wallet"]
    node_key: Hex32 | None
    listen: HostPort | None
    capabilities: Annotated[tuple[Name, ...], Meta(max_length=32)]
    nonce: Hex32


class HandshakeAck(Message, frozen=True, kw_only=True):
    """Proof of ``node_key``: a signature over both nonces, both keys and the channel (see network.handshake).

    ``{"type": "HandshakeAck", "signature": hex64}``
    """

    senders: ClassVar[frozenset[Role]] = EVERYBODY
    signature: Hex64


class Ping(Request, frozen=True, kw_only=True):
    """``{"type": "Ping", "id": 1}`` → ``Pong``."""

    senders: ClassVar[frozenset[Role]] = EVERYBODY


class Pong(Reply, frozen=True, kw_only=True):
    """``{"type": "Pong", "id": 1}``"""

    senders: ClassVar[frozenset[Role]] = EVERYBODY


class Error(Reply, frozen=True, kw_only=True):
    """A refusal: ``code`` for programs (errors.ErrorCode), ``message`` for people, ``details`` to act on.

    ``{"type": "Error", "id": 7, "code": "double_spend", "message": "…", "details": {"conflicting_txid": hex32}}``
    """

    senders: ClassVar[frozenset[Role]] = EVERYBODY
    code: Annotated[str, Meta(max_length=64)]
    message: Annotated[str, Meta(max_length=512)]
    details: Annotated[dict[str, str | I64], Meta(max_length=16)] | None = None

    def refusal(self) -> Refusal:
        """The same as an exception; a code this version does not know becomes ``internal``, and part of the message."""
        if self.code in ErrorCode.__members__.values():
            return Refusal(ErrorCode(self.code), self.message, **(self.details or {}))
        return Refusal(ErrorCode.INTERNAL, f"{self.code}: {self.message}", **(self.details or {}))


def error_of(refusal: Refusal, request_id: int | None = None) -> Error:
    """The ``Error`` message that tells a refusal: one line, at most 512 characters."""
    why = reason_of(refusal)
    return Error(id=request_id, code=why.code, message=why.message, details=why.details)


class Reason(Noun, frozen=True, omit_defaults=True):
    """Why something was refused, as an ``Error`` says it."""

    code: Annotated[str, Meta(max_length=64)]
    message: Annotated[str, Meta(max_length=512)]
    details: Annotated[dict[str, str | I64], Meta(max_length=16)] | None = None


def reason_of(refusal: Refusal) -> Reason:
    text = "".join(c if c.isprintable() else "?" for c in refusal.message)[:512]
    return Reason(str(refusal.code), text, refusal.details or None)
