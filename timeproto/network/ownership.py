"""Showing a key: how a wallet says on one connection that a lease is its own, and how a node checks it (protocol §8).

What is signed names the node, and the nonce that this node gave on this very connection in its handshake. So it is
worth nothing to whoever overhears it: another connection has another nonce, and another node another key. Nor can the
node it was shown to use it elsewhere. Under TLS the handshake is bound to the channel, and with it this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.canonical import sha256, sized
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey, verify
from timeproto.model.transaction import Outpoint
from timeproto.wire.messages import Owner

_NOTHING = "00" * 64


def digest(items: Iterable[Outpoint | str]) -> str:
    """A filter in 32 bytes: whoever takes it up by this cannot be given another, by mistake or by a liar."""
    texts = sorted(str(item).encode("ascii") for item in items)
    return sha256(b"timeproto/filter/v1" + b"".join(map(sized, texts))).hex()


def show(
    key: SigningKey, genesis_hash: str, node: str, nonce: str, name: str, *, time: int, filter: str | None
) -> Owner:
    """The wallet's side. ``node`` is the key that the node has proven, ``nonce`` what it sent in its handshake."""
    unsigned = Owner(key=key.public_hex, time=time, filter=filter, signature=_NOTHING)
    return replace(unsigned, signature=key.sign(unsigned.message(genesis_hash, node, nonce, name)).hex())


def is_shown(owner: Owner, genesis_hash: str, node: str, nonce: str, name: str) -> bool:
    """True if the key was shown to ``node`` where it had given ``nonce``, for the subscription ``name``."""
    signed = owner.message(genesis_hash, node, nonce, name)
    return verify(bytes.fromhex(owner.key), signed, bytes.fromhex(owner.signature))


def require_shown(owner: Owner, client: Any, genesis: Genesis, node: str, name: str) -> None:
    """Raises :class:`Refusal` unless the key is shown on the connection ``client``."""
    nonce = getattr(client, "challenge", None)
    if nonce is None:
        raise Refusal(ErrorCode.NOT_AUTHORISED, "a key is shown after a handshake, which it is shown for")
    if not is_shown(owner, genesis.hash, node, nonce, name):
        raise Refusal(ErrorCode.NOT_AUTHORISED, "the signature does not show the key on this connection")
