"""What the hostile crowd of ``bench hostile`` sends: made once, before it attacks."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress

import msgspec

from timeproto import limits
from timeproto.bench.frames import frame
from timeproto.model.address import address_of
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.wallet import builder
from timeproto.wallet.coins import Selection, WalletCoin
from timeproto.wire import codec, messages

_BLOCKS = ("deaf", "flooding", "garbage", "half_open", "slow")
TOGETHER = 32
"""Frames that are sent at once by those who flood with small ones."""
LARGE = 110
"""Coins, each with its signature, in a payment that just fits a wallet's frame."""
ITEMS = 850
"""Outpoints as text that fit a wallet's frame."""
HTTP_FLOOD = b"GET /v1/node HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * TOGETHER


def source_of(kind: str, number: int) -> str:
    """An address of the loopback for each attacker, in a network for each kind."""
    return f"127.{10 + _BLOCKS.index(kind)}.{number // 250}.{1 + number % 250}"


def client_hello(context: ssl.SSLContext) -> bytes:
    """The first words of a TLS client, whole."""
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def floods(genesis: Genesis, addresses: tuple[str, ...]) -> dict[str, bytes]:
    """By name: what a node has to answer, and what costs it more or less than it looks."""
    unknown = tuple(f"{os.urandom(32).hex()}:0" for _ in range(ITEMS))
    owners = tuple(address_of(SigningKey.generate().public_bytes, genesis.params) for _ in range(limits.FILTER))
    subscribe = messages.UTXOSubscribe(id=1, subscriber_id="many", addresses=owners)
    return {
        "pings": _frames(messages.Ping(id=1)) * TOGETHER,
        "infos": _frames(messages.GetInfo(id=1)) * TOGETHER,
        "queries": _frames(messages.UTXOStateQuery(id=1, outpoints=unknown)),
        "pages": _frames(messages.GetAddressUTXOs(id=1, address=addresses[0])),
        "subscriptions": _frames(subscribe, messages.UTXOUnsubscribe(id=2, subscriber_id="many")),
        "orphans": _frames(*(messages.TransactionBroadcast(id=1, tx=_orphan(genesis)) for _ in range(TOGETHER))),
        "large orphans": _frames(*(messages.TransactionBroadcast(id=1, tx=_orphan(genesis, LARGE)) for _ in range(4))),
        "forgeries": _frames(*(messages.TransactionBroadcast(id=1, tx=_forged(genesis)) for _ in range(TOGETHER))),
    }


def _frames(*said: messages.AnyMessage) -> bytes:
    return b"".join(frame(codec.encode(each)) for each in said)


def _orphan(genesis: Genesis, inputs: int = 1) -> Transaction:
    """Well formed and well signed, of coins that nobody has, each with a key of its own."""
    keys = [SigningKey.generate() for _ in range(inputs)]
    owners = {address_of(key.public_bytes, genesis.params): key for key in keys}
    coins = tuple(WalletCoin(Outpoint(os.urandom(32).hex(), 0), 200_000, address) for address in owners)
    return builder.build(
        Selection(coins, 100_000 * inputs, 0),
        [TxOutput(100_000 * inputs, next(iter(owners)))],
        change_address=None,
        keys=owners,
        genesis=genesis,
        timestamp=0,
    )


def _forged(genesis: Genesis) -> Transaction:
    tx = _orphan(genesis)
    return msgspec.structs.replace(tx, signature=(*tx.signature[:-1], tx.signature[-1] ^ 1))


def garbage() -> dict[str, tuple[bool, bytes]]:
    """By name: whether TLS is spoken first, and what then is said."""
    return {
        "no TLS": (False, os.urandom(400)),
        "plain frames": (False, _frames(messages.Ping()) * 4),
        "random bytes": (True, os.urandom(4_000)),
        "a frame of random bytes": (True, frame(os.urandom(4_000))),
        "too long": (True, (limits.FRAME_WALLET + 1).to_bytes(4, "big") + bytes(4_000)),
        "empty": (True, bytes(4) + _frames(messages.Ping())),
        "too deep": (True, frame(b"[" * 60_000)),
        "no UTF-8": (True, frame(b'{"type":"Ping\xff"}')),
        "a masternode's word": (True, _frames(messages.GetPeers())),
        "http random bytes": (True, os.urandom(4_000)),
        "http two lengths": (True, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy"),
    }


def drips(hello: bytes, *, web: bool) -> list[tuple[bool, bool, bytes]]:
    """Whether TLS is spoken first, whether to the web port, and what then comes byte by byte."""
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 4_000
    body = b"POST /v1/transactions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4000\r\n\r\n" + b" " * 4_000
    query = _frames(messages.UTXOStateQuery(outpoints=("x",) * 500))
    found = [(False, False, hello), (True, False, query)]
    return found + ([(False, True, hello), (True, True, request), (True, True, body)] if web else [])
