"""Webhooks as they are kept and asked for: one small file, written whole or not at all."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Literal

import msgspec

from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.model.address import address_of, require_address
from timeproto.model.canonical import I64, Hex32, Hex64, Noun, domain, i64, sha256, sized
from timeproto.model.keys import verify
from timeproto.model.transaction import AddressText
from timeproto.web import bounds
from timeproto.web.targets import TargetRefused, Targets, Url, place_of
from timeproto.web.view import NodeView
from timeproto.wire.messages import Count, Cursor, UTXOStateNotification

Outcome = Literal["delivered", "gone", "refused", "forbidden", "certificate", "timeout", "unreachable"]
"""How one POST ended: a 2xx, a 410, any other status (a redirect is one), a target inside, no TLS with a certificate
that names the host, no answer in time, no connection or no HTTP."""
Missing = Literal["too_old", "ahead"]
"""The transition log does not reach back so far; or it ends before what was delivered: the node has an old store."""


class Hook(Noun, frozen=True):
    """Whom to tell of an address's coins. Everything up to position ``done`` of the transition log was delivered.

    ``secret`` keys the HMAC; ``stamp`` is the time in the last request of its wallet, ``ends_at`` when it lapses
    (None for the operator's own): Unix ms. ``payer`` is the address block of the wallet that registered it, empty on
    the loopback. With ``gap`` what is before ``done`` is not complete, and the receiver was not told yet.
    ``failing_since``: the first of the failures since it last worked, Unix ms; None if there were none.
    """

    hook: Hex32
    address: AddressText
    url: Url
    secret: Hex32
    owner: Literal["operator", "wallet"]
    done: Count
    stamp: I64 = 0
    ends_at: I64 | None = None
    payer: str = ""
    gap: Missing | None = None
    failing_since: I64 | None = None

    def __repr__(self) -> str:
        return f"<Hook {self.hook} of {self.address}>"


class Removal(Noun, frozen=True):
    """A webhook of a wallet that ended: the time in its last request, Unix ms, and whose place it keeps so long.

    ``address`` and ``payer`` as for :class:`Hook`; empty where an older node did not keep them.
    """

    stamp: I64
    address: str = ""
    payer: str = ""


class Kept(Noun, frozen=True):
    """All webhooks of a node. ``removed``: those that ended, while an older request could still be sent again; an
    older node kept the time alone."""

    version: Literal[1] = 1
    hooks: tuple[Hook, ...] = ()
    removed: dict[Hex32, Removal | I64] = msgspec.field(default_factory=dict)


class WebhookRequest(Noun, frozen=True):
    """A wallet's wish to be told of its address, signed with the address's key; ``remove`` ends it.

    ``timestamp``: Unix ms, near the node's clock and later than that of the request before.
    """

    address: AddressText
    url: Url
    public_key: Hex32
    timestamp: I64
    signature: Hex64
    remove: bool = False

    def signed_bytes(self, genesis_hash: str, node_key: str) -> bytes:
        """What the signature is over: this wish, of this network, to this node."""
        return b"".join((
            domain("webhook", genesis_hash), bytes.fromhex(node_key), sized(self.address.encode()),
            sized(self.url.encode()), i64(self.timestamp), b"\x01" if self.remove else b"\x00",
        ))  # fmt: skip


class WebhookQuestion(Noun, frozen=True):
    """A wallet asks for the webhooks of its address, signed with the address's key. ``timestamp``: Unix ms."""

    address: AddressText
    public_key: Hex32
    timestamp: I64
    signature: Hex64

    def signed_bytes(self, genesis_hash: str, node_key: str) -> bytes:
        """What the signature is over: this question, of this network, to this node."""
        head = domain("webhook-list", genesis_hash) + bytes.fromhex(node_key)
        return head + sized(self.address.encode()) + i64(self.timestamp)


class WebhookAnswer(Noun, frozen=True):
    """A webhook as it stands: what keys its signatures, when it lapses (null: it was removed), up to where its events
    were delivered, and how the last POST ended, after how many in a row that failed."""

    hook: Hex32
    address: AddressText
    url: Url
    secret: Hex32
    ends_at: I64 | None
    cursor: Cursor
    failures: Count
    outcome: Outcome | None

    def __repr__(self) -> str:
        return f"<WebhookAnswer {self.hook} of {self.address}>"


class WebhookLine(Noun, frozen=True):
    """A webhook in the list of its address's: what :class:`WebhookAnswer` says, without the secret."""

    hook: Hex32
    url: Url
    ends_at: I64
    cursor: Cursor
    failures: Count
    outcome: Outcome | None


class WebhookList(Noun, frozen=True):
    """The webhooks that an address's wallet registered."""

    webhooks: tuple[WebhookLine, ...]


class WebhookDelivery(Noun, frozen=True, omit_defaults=True):
    """The body of a POST: transitions of the address's coins, in order, all that there are up to ``cursor``.

    With ``gap`` something is missing before: take the states anew and go on from ``cursor``.
    """

    hook: Hex32
    address: AddressText
    cursor: Cursor
    events: tuple[UTXOStateNotification, ...] = ()
    gap: Missing | None = None


def require_owner(request: WebhookRequest | WebhookQuestion, view: NodeView, now_ms: int) -> None:
    """Raises :class:`Refusal` unless the owner of the address asks this node, now."""
    params = view.genesis.params
    require_address(request.address, params)
    key = bytes.fromhex(request.public_key)
    if address_of(key, params) != request.address:
        raise Refusal(ErrorCode.NOT_OWNER, "the public key is not the address's")
    if abs(request.timestamp - now_ms) > bounds.WEBHOOK_CLOCK * 1000:
        raise Refusal(ErrorCode.NOT_AUTHORISED, "the request's time is too far from the node's", now_ms=now_ms)
    if not verify(key, request.signed_bytes(view.genesis.hash, view.node_key), bytes.fromhex(request.signature)):
        raise Refusal(ErrorCode.BAD_SIGNATURE, "the signature is not the address's over this request")


def require_target(url: str, targets: Targets) -> None:
    """Raises :class:`Refusal` for a URL that leads inside by its spelling alone."""
    try:
        targets.require_host(place_of(url).host)
    except (TargetRefused, ValueError) as error:
        raise Refusal(ErrorCode.NOT_AUTHORISED, str(error)) from None


def hook_id(address: str, url: str) -> str:
    """One webhook for one address and one URL."""
    return sha256(sized(address.encode()) + sized(url.encode())).hex()


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """``v1=`` and the HMAC-SHA256 of ``TIMESTAMP.BODY``; ``timestamp`` in Unix seconds keeps old bodies old."""
    return "v1=" + hmac.digest(secret, b"%d." % timestamp + body, "sha256").hex()


def headers_of(hook: str, secret: bytes, timestamp: int, body: bytes) -> dict[str, str]:
    """What comes with a delivery of the webhook whose id is ``hook``."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "timeproto",
        "Timeproto-Webhook": hook,
        "Timeproto-Timestamp": str(timestamp),
        "Timeproto-Signature": sign(secret, timestamp, body),
    }


def load(path: Path) -> Kept:
    """What :func:`save` wrote last, nothing if it never did; :class:`ConfigurationError` if the file is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the webhooks in {path} cannot be read ({error}): without the file the node starts, and forgets what"
            " wallets registered and what was delivered"
        ) from None


def save(path: Path, kept: Kept) -> None:
    """Replaces the file; it holds secrets. Blocks."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(kept), indent=1))


def replace_file(path: Path, text: bytes) -> None:
    """Puts ``text`` and a newline there in one step, durably; the file is its owner's alone. Blocks."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
