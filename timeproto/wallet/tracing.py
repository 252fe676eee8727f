"""Where is a payment? One node's account of it, with what it says to be over checked against its proof."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.genesis import Genesis
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.ask import ask
from timeproto.wallet.belief import Belief, Lie
from timeproto.wallet.nodes import Node
from timeproto.wire import messages
from timeproto.wire.messages import Trace

Outcome = Literal["told", "unknown", "unreachable", "refused", "false"]


@attrs.frozen
class Account:
    """What came of asking ``node``: ``told`` its ``trace``; it does not know the transaction; it could not be reached;
    it refused to say; or what it says is ``false``, or not borne out by its proof. ``why`` says so in words.

    ``proven``: the status is proven, against the genesis alone, to be for ever. Everything else is the node's word.
    """

    node: Node
    outcome: Outcome
    trace: Trace | None = None
    proven: bool = False
    why: str | None = None


async def trace(reactor: Any, node: Node, txid: str, genesis: Genesis) -> Account:
    """Asks one node, which must prove that it is a masternode of ``genesis``. Never raises for what a node does."""

    async def question(message: Any) -> Any:
        return await ask(reactor, node, message, genesis)

    try:
        found = await question(messages.GetTrace(txid=txid))
        if found.txid != txid:
            raise Lie(f"another transaction was told of than {txid}")
        proven = await _prove(found, Belief(genesis, question))
    except ConnectionGone as gone:
        return Account(node, "unreachable", why=str(gone))
    except Lie as lie:
        return Account(node, "false", why=str(lie))
    except Refusal as refusal:
        unknown = refusal.code is ErrorCode.NOT_FOUND
        return Account(node, "unknown" if unknown else "refused", why=refusal.message)
    return Account(node, "told", found, proven)


async def _prove(found: Trace, belief: Belief) -> bool:
    """True if the status is proven; :class:`Lie` if it says that it is over and cannot be proven."""
    if found.tx is not None:
        belief.named(found.txid, found.tx)
    if found.status in ("final", "confirmed"):
        if found.proof is not None:
            belief.check(found.proof, found.txid)
        if found.status == "confirmed":
            await belief.confirmed(found.txid, found.height, found.inclusion)
        elif found.proof is None:
            belief.check(None, found.txid)
        return True
    if found.tx is None:
        return False
    if found.status == "aborted":
        end = await belief.end_of(found.tx)
        if end is None:
            raise Lie(f"no proof that {found.txid} was aborted")
        if (end.height, end.rival) != (found.height, found.conflicting_txid):
            raise Lie(f"{found.txid} was ended by block {end.height}, and not as it was told")
        return True
    rivals = [rival for rival in found.rivals if rival.proven and rival.status in ("final", "confirmed")]
    if found.status == "refused" and rivals:
        await belief.coin_is_spent(rivals[0].outpoint, rivals[0].txid)
        return rivals[0].outpoint in found.tx.outpoints
    return False
