"""What ``timeproto wallet`` shows: for people, amounts in decimal TIME; as JSON, in integers of the smallest unit."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from timeproto.cli.terminal import say


def tell_new(path: Path, phrase: str, address: str, genesis: str, *, as_json: bool) -> None:
    """A new wallet, with its phrase: the only time that it is shown."""
    if as_json:
        say(json.dumps({"wallet": str(path), "phrase": phrase, "address": address, "genesis": genesis}))
        return
    words = [f"{number:>3} {word:<12}" for number, word in enumerate(phrase.split(), 1)]
    say(  # all at once: it arrives or it does not
        f"Wallet   {path}",
        f"Address  {address}",
        f"Genesis  {genesis}",
        "",
        "Write these words down, in this order:",
        "",
        *("   " + "".join(words[start : start + 4]) for start in range(0, len(words), 4)),
        "",
        "Whoever has them has the money. They are not shown again.",
    )


def tell_restored(path: Path, used: int, total: int, asked: int, named: int, *, as_json: bool) -> None:
    """A wallet from its phrase; ``asked``: how many nodes were, of those that were ``named``."""
    from timeproto.wallet.amounts import format_amount

    if as_json:
        say(json.dumps({"wallet": str(path), "used_addresses": used, "total": total, "nodes": asked}))
        return
    others = "the others could not be asked" if named > 1 else "others may be named too, each with --node"
    agreed = (
        f"{asked} nodes were asked, and none of them shows more."
        if asked > 1
        else f"One node was asked, and it could keep more to itself: {others}."
    )
    say(f"Wallet   {path}", f"{used} addresses were used; they hold {format_amount(total)} TIME.", agreed)


def tell_balance(balance: Any, *, as_json: bool) -> None:
    from timeproto.wallet.amounts import format_amount

    rows = {name: getattr(balance, name) for name in ("available", "pending", "locked", "total")}
    if as_json:
        say(json.dumps(rows))
    else:
        say(*(f"{name:<10} {format_amount(amount):>24} TIME" for name, amount in rows.items()))


def tell_sending(payment: Any, address: str, amount: int) -> None:
    """The beginning of a payment."""
    from timeproto.wallet.amounts import format_amount

    say(f"Paying {format_amount(amount)} TIME to {address}", f"  transaction {payment.txid}")


def tell_step(step: Any) -> None:
    """How far a payment has come."""
    block = "" if step.height is None else f" in block {step.height}"
    say(f"  {step.ms:>8.1f} ms  {step.state}{block}")


def tell_sent(payment: Any, amount: int, quorum: int, height: int | None, *, as_json: bool) -> None:
    """The end of a payment whose proof was verified; ``height`` is the block's if it was waited for."""
    votes = signers(payment.proof)
    if as_json:
        steps = [{"state": step.state, "ms": round(step.ms, 3)} for step in payment.history]
        told = {"txid": payment.txid, "amount": amount, "fee": payment.tx.fee, "steps": steps}
        block = {} if height is None else {"height": height}
        say(json.dumps(told | {"final": True, "votes": votes, "quorum": quorum} | block))
        return
    say(f"  final: the proof holds, {votes} masternodes signed, {quorum} are needed")
    if height is not None:
        say(f"  confirmed: block {height} contains it, and that is proven too")


def tell_aborted(end: Any, *, as_json: bool) -> None:
    """A transaction that a decided block ended, proven."""
    if as_json:
        say(json.dumps({"txid": end.details["txid"], "aborted": True, "height": end.height, "rival": end.rival}))
    else:
        say(f"  {end.message}: it holds no coins any more, and the proof holds")


def tell_not_aborted(txid: str, height: int | None, *, as_json: bool) -> None:
    """A transaction that was to be cancelled, and became final, proven; ``height`` is its block's if there is one."""
    if as_json:
        say(json.dumps({"txid": txid, "aborted": False, "final": True, "height": height}))
    else:
        where = "no block contains it yet" if height is None else f"block {height} contains it"
        say(f"  it is final, and cannot be cancelled any more: the proof holds, and {where}")


def tell_block(place: Any) -> None:
    """Where a transaction stands in the chain, verified."""
    header = place.header
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.timestamp / 1000))
    say(f"block {header.height} of {moment} contains it, and {len(place.commit.signatures)} masternodes decided that")


def signers(proof: Any) -> int:
    """How many masternodes' signatures a proof has, of votes or of a block."""
    return len(proof.votes) if hasattr(proof, "votes") else len(proof.commit.signatures)


def tell_change(change: Any, *, as_json: bool) -> None:
    """One change of a coin, on one line."""
    from timeproto.model.utxo_state import holder, kind
    from timeproto.wallet.amounts import format_amount

    old = None if change.old_state is None else kind(change.old_state)
    new = kind(change.new_state)
    if as_json:
        row = {
            "outpoint": str(change.outpoint),
            "address": change.output.address,
            "amount": change.output.amount,
            "old_state": old,
            "new_state": new,
            "txid": holder(change.new_state),
            "timestamp": change.timestamp,
            "proven": change.proven,
        }
        say(json.dumps(row))
        return
    moment = _moment(change.timestamp)
    path = f"{old} → {new}" if old is not None else new
    proven = "proven" if change.proven else "claimed"
    say(f"{moment}  {change.outpoint}  {format_amount(change.output.amount):>16} TIME  {path}  ({proven})")


def tell_incoming(incoming: Any, *, as_json: bool) -> None:
    """How far a payment on its way is, on one line that cannot be taken for a coin's."""
    from timeproto.wallet.amounts import format_amount

    if as_json:
        outputs = [
            {"vout": each.vout, "address": each.output.address, "amount": each.output.amount}
            for each in incoming.outputs
        ]
        row = {
            "incoming": incoming.txid,
            "status": incoming.status,
            "amount": incoming.amount,
            "outputs": outputs,
            "conflicting_txid": incoming.rival,
            "height": incoming.height,
            "timestamp": incoming.timestamp or 0,
        }
        say(json.dumps(row))
        return
    moment = _moment(incoming.timestamp)
    amount = format_amount(incoming.amount)
    rival = "" if incoming.rival is None else f", and {incoming.rival} wants the same coins"
    if incoming.status == "confirmed":
        say(f"{moment}  block {incoming.height} contains {incoming.txid}, and that is proven")
    elif incoming.status == "final":
        say(f"{moment}  {incoming.txid} is final: {amount} TIME, as told above")
    else:
        word = "on its way" if incoming.status in ("seen", "locked", "pending") else "will not come"
        say(f"{moment}  {word}, says the node: {incoming.txid}  {amount} TIME  {incoming.status}{rival}")


def _moment(timestamp: int | None) -> str:
    return time.strftime("%H:%M:%S", time.localtime(timestamp / 1000)) if timestamp else "now     "


def tell_proof(proof: Any, txid: str, masternodes: Any, *, as_json: bool) -> None:
    """A verified proof: who signed."""
    from timeproto.wire import codec

    if as_json:
        say(codec.encode(proof).decode("utf-8"))
        return
    signed = f"{signers(proof)} of {len(masternodes)} masternodes signed, {masternodes.quorum} are needed"
    signatures = proof.votes if hasattr(proof, "votes") else proof.commit.signatures
    say(f"{txid} is final: the proof holds, {signed}", *(f"  {each.voter}" for each in signatures))
