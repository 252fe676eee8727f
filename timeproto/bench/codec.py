"""What a message costs to encode and decode, by type, with its size; against the standard library's ``json``.

The messages are real: those of a network of seven masternodes in this process, and what its wallets are told.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from timeproto import limits
from timeproto.bench import plot
from timeproto.bench.inprocess import Cluster
from timeproto.bench.machine import spread
from timeproto.bench.progress import Progress
from timeproto.model.block import BlockVote
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import UNSPENT, to_wire
from timeproto.model.vote import VoteBatch
from timeproto.wire import codec, compression, messages

BATCH = 100
BLOCK = 250
SLICE = 0.03
"""Seconds of one measurement."""


def samples() -> dict[str, Any]:
    """A message of every type that the load consists of, by its name here."""
    said: list[Any] = []
    cluster = Cluster(7, 2 * BLOCK, sent=said.append)
    one = cluster.pay(1)[0]
    cluster.pay(BATCH)
    cluster.pay(BLOCK - 1 - BATCH)
    cluster.decide_block()
    node = cluster.nodes[0]
    record = node.store.transaction(one.txid)
    if record is None or record.proof is None:
        raise RuntimeError("a final payment has no proof")
    cursor, output = messages.Cursor(node.key, 12), one.outputs[0]
    change = messages.StateChange(
        outpoint=one.output_outpoint(0), old_state=None, new_state=to_wire(UNSPENT), timestamp=0, originator=node.key
    )
    outpoints = [Outpoint(cluster.genesis.hash, vout) for vout in range(BATCH)]
    states = tuple(messages.ItemState("known", outpoint, to_wire(UNSPENT), output) for outpoint in outpoints)
    return {
        "TransactionBroadcast": messages.TransactionBroadcast(id=1, tx=one),
        "TransactionAccepted": messages.TransactionAccepted(id=1, txid=one.txid),
        "Notification + proof": messages.UTXOStateNotification(
            notification=change, cursor=cursor, output=output, proof=record.proof
        ),
        f"StateResponse of {BATCH}": messages.UTXOStateResponse(id=1, states=states),
        "VoteBatch of 1": next(m for m in said if isinstance(m, VoteBatch) and m.tree.size == 1),
        f"VoteBatch of {BATCH}": next(m for m in said if isinstance(m, VoteBatch) and m.tree.size == BATCH),
        f"Transactions of {BATCH}": next(
            m for m in said if isinstance(m, messages.Transactions) and len(m.transactions) == BATCH
        ),
        "BlockVote": next(m for m in said if isinstance(m, BlockVote)),
        f"BlockProposal of {BLOCK}": next(m for m in said if isinstance(m, messages.BlockProposal)),
    }


def measure(repeat: int, progress: Progress) -> dict[str, Any]:
    """Microseconds of CPU, and each ratio to ``json`` of the same bytes."""
    progress.stage("messages are made")
    types = {}
    found = samples()
    progress.stage("messages are encoded and decoded")
    for number, (name, message) in enumerate(found.items()):
        payload = codec.encode(message)
        plain = json.loads(payload)
        squeezed = compression.squeeze(payload)
        ours: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeat):
            ours["encode"].append(_clock(lambda: codec.encode(message)))  # noqa: B023
            ours["dumps"].append(_clock(lambda: json.dumps(plain)))  # noqa: B023
            ours["decode"].append(_clock(lambda: codec.decode(payload)))  # noqa: B023
            ours["loads"].append(_clock(lambda: json.loads(payload)))  # noqa: B023
            ours["squeeze"].append(_clock(lambda: compression.squeeze.__wrapped__(payload)))  # noqa: B023
            ours["expand"].append(_clock(lambda: _expand(squeezed)))  # noqa: B023
        spreads = {key: spread(values) for key, values in ours.items()}
        types[name] = {
            "bytes": len(payload),
            "bytes_squeezed": len(squeezed),
            "squeeze_us": spreads["squeeze"],
            "expand_us": spreads["expand"],
            "encode_us": spreads["encode"],
            "decode_us": spreads["decode"],
            "json_dumps_us": spreads["dumps"],
            "json_loads_us": spreads["loads"],
            "encode_to_json": _ratio(spreads["encode"], spreads["dumps"]),
            "decode_to_json": _ratio(spreads["decode"], spreads["loads"]),
        }
        progress.show((number + 1) / len(found))
    return {"types": types}


def _expand(payload: bytes) -> bytes:
    return compression.expand(payload, limits.FRAME_PEER) if compression.is_squeezed(payload) else payload


def _clock(work: Callable[[], Any]) -> float:
    """Microseconds of CPU of one call, over ``SLICE`` seconds of calls."""
    work()
    calls, began = 0, time.process_time()
    while (took := time.process_time() - began) < SLICE:
        for _ in range(5):
            work()
        calls += 5
    return 1e6 * took / calls


def _ratio(ours: dict[str, float] | None, theirs: dict[str, float] | None) -> float | None:
    return None if ours is None or theirs is None else round(ours["median"] / theirs["median"], 3)


def text(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{'message':<24} {'bytes':>7} {'encode µs':>10} {'decode µs':>10} {'of json':>14}"
        f" {'squeezed':>9} {'µs':>6} {'expand µs':>10}"
    ]
    for name, each in report["types"].items():
        lines.append(
            f"{name:<24} {each['bytes']:>7} {each['encode_us']['median']:>10.1f} {each['decode_us']['median']:>10.1f}"
            f" {each['encode_to_json']:>6.2f} {each['decode_to_json']:>7.2f}"
            f" {each['bytes_squeezed']:>9} {each['squeeze_us']['median']:>6.1f} {each['expand_us']['median']:>10.1f}"
        )
    return lines


def draw(report: dict[str, Any], note: str) -> str:
    types = report["types"]
    return plot.bars(
        "Decoding a message",
        list(types),
        [
            ("wire.codec", [each["decode_us"]["median"] for each in types.values()]),
            ("json.loads, unchecked", [each["json_loads_us"]["median"] for each in types.values()]),
        ],
        x="message",
        y="microseconds",
        log_y=True,
        note=note,
    )
