"""What every message is made of: the roles that may send it, and the shapes that several of them share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, ClassVar

from msgspec import Meta

from timeproto.model.canonical import Noun


class Role(Enum):
    """Who is at the other end of a connection, as far as it is proven."""

    WALLET = "wallet"
    """Anybody: the role of every connection a node accepts, until a handshake proves more."""
    NODE = "node"
    """A node, as its wallet sees it."""
    MASTERNODE = "masternode"
    """A member of the masternode set that signed the handshake."""


EVERYBODY = frozenset(Role)
ASKERS = frozenset({Role.WALLET, Role.MASTERNODE})
ANSWERERS = frozenset({Role.NODE, Role.MASTERNODE})
NODE = frozenset({Role.NODE})
MASTERNODES = frozenset({Role.MASTERNODE})

RequestId = Annotated[int, Meta(ge=0, le=2**53 - 1)] | None
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:-]{1,64}\Z")]
HostPort = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:\[\]-]{3,270}\Z")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Message(Noun, frozen=True, kw_only=True, omit_defaults=True, tag=True, tag_field="type"):
    """Base of every message. ``type`` on the wire is the class's name."""

    senders: ClassVar[frozenset[Role]] = frozenset()


class Request(Message, frozen=True, kw_only=True):
    """A message that is answered by exactly one reply, or one ``Error``, with the same ``id``."""

    senders: ClassVar[frozenset[Role]] = ASKERS
    id: RequestId = None


class Charge(Noun, frozen=True):
    """What a request and its answer cost, and what may still be spent at once."""

    cost: Count
    left: Count


class Reply(Message, frozen=True, kw_only=True):
    """The answer to a request; ``id`` is the request's. ``charge`` only comes to who offers ``budgets``, and only
    with what costs more than a little."""

    senders: ClassVar[frozenset[Role]] = ANSWERERS
    id: RequestId = None
    charge: Charge | None = None
