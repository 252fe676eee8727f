"""What ``timeproto wallet`` shows: for people, amounts in decimal TIME; as JSON, in integers of the smallest unit."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def tell_new(path: Path, phrase: str, address: str, genesis: str, *, as_json: bool) -> None:
    """A new wallet, with its phrase: the only time that it is shown."""
    if as_json:
        print(json.dumps({"wallet": str(path), "phrase": phrase, "address": address, "genesis": genesis}))
        return
    print(f"Wallet   {path}\nAddress  {address}\nGenesis  {genesis}\n\nWrite these words down, in this order:\n")
    words = phrase.split()
    for start in range(0, len(words), 4):
        print("   " + "".join(f"{start + at + 1:>3} {word:<12}" for at, word in enumerate(words[start : start + 4])))
    print("\nWhoever has them has the money. They are not shown again.")


def tell_restored(path: Path, used: int, total: int, *, as_json: bool) -> None:
    from timeproto.wallet.amounts import format_amount

    if as_json:
        print(json.dumps({"wallet": str(path), "used_addresses": used, "total": total}))
    else:
        print(f"Wallet   {path}\n{used} addresses were used; they hold {format_amount(total)} TIME.")


def tell_balance(balance: Any, *, as_json: bool) -> None:
    from timeproto.wallet.amounts import format_amount

    rows = {name: getattr(balance, name) for name in ("available", "pending", "locked", "total")}
    if as_json:
        print(json.dumps(rows))
    else:
        for name, amount in rows.items():
            print(f"{name:<10} {format_amount(amount):>24} TIME")


def tell_sending(payment: Any, address: str, amount: int) -> None:
    """The beginning of a payment, and each step as it comes."""
    from timeproto.wallet.amounts import format_amount

    print(f"Paying {format_amount(amount)} TIME to {address}\n  transaction {payment.txid}")
    payment.on_step(lambda step: print(f"  {step.ms:>8.1f} ms  {step.state}", flush=True))


def tell_sent(payment: Any, amount: int, quorum: int, *, as_json: bool) -> None:
    """The end of a payment whose proof was verified."""
    votes = len(payment.proof.votes)
    if as_json:
        steps = [{"state": step.state, "ms": round(step.ms, 3)} for step in payment.history]
        told = {"txid": payment.txid, "amount": amount, "fee": payment.tx.fee, "steps": steps}
        print(json.dumps(told | {"final": True, "votes": votes, "quorum": quorum}))
    else:
        print(f"  final: the proof holds, {votes} masternodes signed, {quorum} are needed")


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
        print(json.dumps(row), flush=True)
        return
    moment = time.strftime("%H:%M:%S", time.localtime(change.timestamp / 1000)) if change.timestamp else "now     "
    path = f"{old} → {new}" if old is not None else new
    proven = "proven" if change.proven else "claimed"
    print(
        f"{moment}  {change.outpoint}  {format_amount(change.output.amount):>16} TIME  {path}  ({proven})", flush=True
    )


def tell_proof(proof: Any, masternodes: Any, *, as_json: bool) -> None:
    """A verified proof: who signed."""
    from timeproto.wire import codec

    if as_json:
        print(codec.encode(proof).decode("utf-8"))
        return
    signed = f"{len(proof.votes)} of {len(masternodes)} masternodes signed, {masternodes.quorum} are needed"
    print(f"{proof.txid} is final: the proof holds, {signed}")
    for vote in proof.votes:
        print(f"  {vote.voter}")


def warn(sentence: str) -> None:
    """Something to know beside the answer: on standard error, so that JSON stays JSON."""
    print(f"timeproto: {sentence}", file=sys.stderr)
