"""The HTTP API: one table of routes, each with the question it puts to the node's view."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.address import require_address
from timeproto.model.block import DecidedBlock
from timeproto.model.certificate import FinalityProof
from timeproto.model.ledger import Coin
from timeproto.model.transaction import Outpoint, Transaction, parse_outpoint
from timeproto.model.utxo_state import Locked, SpentPending, Unspent, to_wire
from timeproto.network import costs
from timeproto.web import answers, bounds
from timeproto.web.events import Stream, parse_cursor
from timeproto.web.feed import Feed
from timeproto.web.metrics import Metrics
from timeproto.web.parameters import (
    ADDRESS,
    BLOCKS_PAGE,
    HEIGHT,
    OUTPOINT,
    PAGE,
    SINCE,
    STREAM_FILTER,
    SUBMIT_REFUSES,
    TXID,
)
from timeproto.web.refusals import too_long
from timeproto.web.routes import TAKEN, Ask, Body, Route, read_body
from timeproto.web.view import NodeView, VotesSeen
from timeproto.wire import codec, messages
from timeproto.wire.messages import CoinState, Cursor

T = TypeVar("T")
_Line = tuple[answers.BlockLine, tuple[str, ...]]
"""A block in the list, and who signed it."""


class Api:
    """Answers from one node's view and feed."""

    def __init__(self, view: NodeView, feed: Feed, metrics: Metrics, clock: Any) -> None:
        self._view = view
        self._feed = feed
        self._metrics = metrics
        self._clock = clock
        self._genesis: bytes | None = None
        self._streams: dict[Stream, None] = {}
        self._lines: dict[int, _Line] = {}

    def routes(self) -> list[Route]:
        """Everything under ``/v1``, and what a supervisor and a monitor ask."""
        view, not_found = self._view, (ErrorCode.NOT_FOUND,)
        return [
            Route("GET", "/v1/node", "How this node is", messages.Info, lambda ask: view.read(view.info)),
            Route("GET", "/v1/genesis", "What this network agrees on; compare its hash with a source you trust",
                  messages.GenesisDocument, self.genesis, cost=5),
            Route("GET", "/v1/coins/{outpoint}", "A coin and its state", answers.CoinAnswer, self.coin,
                  (OUTPOINT,), refuses=not_found),
            Route("GET", "/v1/addresses/{address}", "What an address owns", answers.AddressAnswer, self.address,
                  (ADDRESS,), cost=10, refuses=(ErrorCode.BAD_ADDRESS,)),
            Route("GET", "/v1/addresses/{address}/coins", "The coins of an address, page by page",
                  messages.AddressUTXOs, self.coins, (ADDRESS, *PAGE), cost=5, refuses=(ErrorCode.BAD_ADDRESS,)),
            Route("GET", "/v1/transactions/{txid}", "A transaction, what became of it, and what proves it",
                  messages.TransactionInfo, self.transaction, (TXID,), cost=2, refuses=not_found),
            Route("GET", "/v1/transactions/{txid}/trace", "Where it is: its stages, who voted and who is missing",
                  messages.Trace, self.trace, (TXID,), cost=4, refuses=not_found),
            Route("GET", "/v1/transactions/{txid}/proof", "The finality proof of a transaction",
                  FinalityProof, self.proof, (TXID,), cost=2, refuses=not_found),
            Route("POST", "/v1/transactions", "Send a payment: accepted means locked and durable here, not final",
                  messages.TransactionAccepted, self.submit, body=Transaction, status=202, cost=10,
                  refuses=SUBMIT_REFUSES),
            Route("GET", "/v1/blocks", "Decided blocks, the newest first", answers.BlocksAnswer, self.blocks,
                  BLOCKS_PAGE, cost=5),
            Route("GET", "/v1/blocks/{height}", "A decided block", answers.BlockAnswer, self.block,
                  (HEIGHT,), cost=5, refuses=not_found),
            Route("GET", "/v1/blocks/{height}/document", "A decided block whole, with its verdicts' certificates",
                  DecidedBlock, self.document, (HEIGHT,), cost=20, refuses=not_found),
            Route("GET", "/v1/masternodes", "The voters, and what they signed lately",
                  answers.MasternodesAnswer, self.masternodes, cost=10),
            Route("GET", "/v1/contested", "Transactions that wait for a block's verdict",
                  answers.ContestedAnswer, self.contested, cost=5),
            Route("GET", "/v1/evidence", "Proofs that masternodes signed two things where one is allowed",
                  messages.EvidenceFound, self.evidence, (SINCE,), cost=10),
            Route("GET", "/v1/finality", "How long the newest payments took", answers.FinalityAnswer,
                  lambda ask: answers.FinalityAnswer(tuple(self._feed.finals)), cost=2),
            Route("GET", "/v1/events", "Every transition as a server-sent event, resumable by Last-Event-ID",
                  "text/event-stream", self.events, STREAM_FILTER, cost=5,
                  refuses=(ErrorCode.BUSY, ErrorCode.BAD_ADDRESS)),
            Route("GET", "/live", "200 while the process answers", answers.Live, lambda ask: answers.Live(True)),
            Route("GET", "/ready", "200 while payments are worth sending here, else 503", answers.Ready, self.ready),
            Route("GET", "/metrics", "Numbers for Prometheus", "text/plain", self.metrics, cost=5),
        ]

    # -- the node ------------------------------------------------------------------------------------

    def genesis(self, ask: Ask) -> Body:
        if self._genesis is None:  # it may list 100,000 allocations, and never changes
            self._genesis = codec.encode(messages.GenesisDocument(genesis=self._view.genesis))
        return Body(self._genesis, "application/json", headers={"Cache-Control": "no-cache"})

    def ready(self, ask: Ask) -> Deferred[Body]:
        def look() -> Body:
            info = self._view.info()
            reasons = []
            if not info.voting:
                reasons.append(f"not voting: {info.not_voting}")
            if not info.synced:
                reasons.append("not caught up")
            if info.connected < info.quorum:
                reasons.append(f"{info.connected} masternodes connected of the {info.quorum} needed")
            ready = answers.Ready(not reasons, tuple(reasons))
            return Body(codec.encode(ready), "application/json", 503 if reasons else 200)

        return self._view.read(look)

    def metrics(self, ask: Ask) -> Deferred[Body]:
        view = self._view
        return view.read(lambda: Body(*self._metrics.render(view.info(), view.figures())))

    async def masternodes(self, ask: Ask) -> answers.MasternodesAnswer:
        view = self._view
        tip = await view.read(view.tip)
        commits = [signers for _, signers in await self._newest(ask, tip.height, bounds.WEB_BLOCKS_PAGE)]
        signed, counted = self._feed.signed()

        def look() -> answers.MasternodesAnswer:
            members = view.genesis.masternode_set
            lines = []
            for peer in view.info().peers:
                blocks = sum(peer.node_key in signers for signers in commits)
                proofs = signed.get(peer.node_key, 0)
                lines.append(answers.MasternodeLine(peer.node_key, peer.address, peer.direction, proofs, blocks))
            place = {line.node_key: at for at, line in enumerate(lines)}
            newest = tuple(
                answers.SignedProof(txid, tuple(place[voter] for voter in voters if voter in place))
                for txid, voters in self._feed.newest_proofs(bounds.PROOFS_SHOWN)
            )
            return answers.MasternodesAnswer(
                members.hash, members.quorum, members.faulty, counted, len(commits), tuple(lines), newest
            )

        return await view.read(look)

    def evidence(self, ask: Ask) -> Deferred[messages.EvidenceFound]:
        since = ask.values["since"]

        def look() -> messages.EvidenceFound:
            found = self._view.evidence(since, limits.EVIDENCE_PAGE + 1)
            page = tuple(found[: limits.EVIDENCE_PAGE])
            more = len(found) > len(page)
            return messages.EvidenceFound(evidence=page, next=since + len(page), more=more)

        return self._view.read(look)

    # -- coins ---------------------------------------------------------------------------------------

    def coin(self, ask: Ask) -> Deferred[answers.CoinAnswer]:
        outpoint = _outpoint(ask.values["outpoint"])

        def look() -> answers.CoinAnswer:
            coin = self._view.coin(outpoint)
            if coin is None:
                raise Refusal(ErrorCode.NOT_FOUND, f"no coin {outpoint} is known here", outpoint=str(outpoint))
            return answers.CoinAnswer(self._cursor(), outpoint, to_wire(coin.state), coin.output)

        return self._view.read(look)

    def address(self, ask: Ask) -> Deferred[answers.AddressAnswer]:
        address = require_address(ask.values["address"], self._view.genesis.params)

        def look() -> answers.AddressAnswer:
            coins, more = self._view.address_coins(address, None, bounds.WEB_BALANCE_COINS, spent=False)
            return answers.AddressAnswer(address, self._cursor(), _balance([coin for _, coin in coins], not more))

        return self._view.read(look)

    def coins(self, ask: Ask) -> Deferred[messages.AddressUTXOs]:
        values = ask.values
        address = require_address(values["address"], self._view.genesis.params)
        after = None if values["after"] is None else _outpoint(values["after"])

        def look() -> messages.AddressUTXOs:
            coins, more = self._view.address_coins(address, after, values["limit"], spent=values["spent"])
            page = tuple(CoinState(outpoint, to_wire(coin.state), coin.output) for outpoint, coin in coins)
            return messages.AddressUTXOs(address=address, cursor=self._cursor(), coins=page, more=more)

        return self._view.read(look)

    # -- transactions --------------------------------------------------------------------------------

    def transaction(self, ask: Ask) -> Deferred[messages.TransactionInfo]:
        txid = ask.values["txid"]
        return self._view.read(lambda: _known(self._view.transaction(txid), txid))

    def trace(self, ask: Ask) -> Deferred[messages.Trace]:
        txid = ask.values["txid"]
        return self._view.read(lambda: _known(self._view.trace(txid), txid))

    def proof(self, ask: Ask) -> Deferred[FinalityProof]:
        txid = ask.values["txid"]

        def look() -> FinalityProof:
            found = _known(self._view.transaction(txid), txid)
            if found.proof is None:
                raise Refusal(ErrorCode.NOT_FOUND, f"there is no finality proof of {txid}", txid=txid)
            return found.proof

        return self._view.read(look)

    def submit(self, ask: Ask) -> Deferred[messages.TransactionAccepted]:
        tx = read_body(ask, Transaction)
        return self._view.submit(tx).addCallback(lambda reply: messages.TransactionAccepted(txid=reply.txid))

    def contested(self, ask: Ask) -> Deferred[answers.ContestedAnswer]:
        def look() -> answers.ContestedAnswer:
            lines = []
            for txid in self._view.contested(bounds.WEB_CONTESTED):
                votes = self._view.votes(txid)
                if votes is not None:
                    lines.append(answers.ContestedLine(txid, _votes(votes)))
            return answers.ContestedAnswer(tuple(lines))

        return self._view.read(look)

    # -- blocks --------------------------------------------------------------------------------------

    async def _newest(self, ask: Ask, height: int, count: int) -> list[_Line]:
        """Up to ``count`` decided blocks from ``height`` down with who signed them, as far as the store has them.

        Each that is not at hand is a question of its own, and paid for: fifty large ones would keep the node.
        """
        found: list[_Line] = []
        while height > 0 and len(found) < count:
            line = self._lines.get(height) or await self._view.read(partial(self._read_line, ask.request, height))
            if line is None:
                break
            found.append(line)
            height -= 1
        return found

    def _read_line(self, request: Any, height: int) -> _Line | None:
        """A decided block never changes, and may be large: its line is made once."""
        decided = None if request.gone else self._view.block(height)
        if decided is None:
            return None
        header, block, commit = decided.block.header, decided.block, decided.commit
        request.spend(costs.of_reading(block))
        counts = len(block.transactions), len(block.verdicts), len(commit.signatures)
        line = answers.BlockLine(height, commit.block, header.timestamp, header.proposer, header.round, *counts)
        while len(self._lines) >= bounds.WEB_LINES_KEPT:
            del self._lines[next(iter(self._lines))]
        self._lines[height] = line, tuple(each.voter for each in commit.signatures)
        return self._lines[height]

    async def blocks(self, ask: Ask) -> answers.BlocksAnswer:
        before, limit = ask.values["before"], ask.values["limit"]
        head = (await self._view.read(self._view.tip)).height
        top = head if before is None else min(head, before - 1)
        lines = tuple(line for line, _ in await self._newest(ask, top, limit))
        return answers.BlocksAnswer(head, lines, bool(lines) and lines[-1].height > 1)

    def block(self, ask: Ask) -> Deferred[answers.BlockAnswer]:
        def look() -> answers.BlockAnswer:
            decided = self._decided(ask.values["height"])
            block = decided.block
            verdicts = tuple(
                answers.VerdictLine(each.kind, each.txid, tuple(vote.voter for vote in each.votes))
                for each in block.verdicts
            )
            return answers.BlockAnswer(
                decided.commit.block, block.header, decided.commit, block.coinbase, block.transactions, verdicts
            )

        return self._view.read(look)

    def document(self, ask: Ask) -> Deferred[DecidedBlock]:
        return self._view.read(lambda: self._decided(ask.values["height"]))

    def _decided(self, height: int) -> DecidedBlock:
        decided = self._view.block(height)
        if decided is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"no block {height} is known here", height=height)
        return decided

    # -- events --------------------------------------------------------------------------------------

    def events(self, ask: Ask) -> Deferred[Any]:
        values = ask.values
        wanted: list[Outpoint | str] = [_outpoint(text) for text in values["outpoint"]]
        wanted += [require_address(address, self._view.genesis.params) for address in values["address"]]
        wanted += values["txid"]
        if len(wanted) > bounds.WEB_STREAM_FILTER:
            raise too_long(400, "web_stream_filter", bounds.WEB_STREAM_FILTER, "addresses, outpoints and txids")
        since = ask.request.header("last-event-id") or values["since"]
        cursor = None if since is None else parse_cursor(since)
        if ask.request.method == b"HEAD":
            raise Refusal(ErrorCode.BAD_FIELD, "a stream has no end to be told of")
        if len(self._streams) >= bounds.WEB_STREAMS:
            raise Refusal(ErrorCode.BUSY, "there are as many event streams as this node serves",
                          limit="web_streams", value=bounds.WEB_STREAMS, retry_after_ms=10_000)
        lean = not values["proofs"]
        stream = Stream(ask.request, self._view, self._feed, self._clock, wanted=wanted, lean=lean, on_end=self._ended)
        self._streams[stream] = None
        self._metrics.streams.set(len(self._streams))
        ask.request.notifyFinish().addBoth(lambda _: self._ended(stream))
        return stream.begin(cursor).addCallback(lambda _: TAKEN)

    def _ended(self, stream: Stream) -> None:
        self._streams.pop(stream, None)
        self._metrics.streams.set(len(self._streams))

    def close(self) -> None:
        """Ends every stream."""
        for stream in list(self._streams):
            stream.stopProducing()

    def _cursor(self) -> Cursor:
        return Cursor(self._view.node_key, self._view.position())


def _known(found: T | None, txid: str) -> T:
    if found is None:
        raise Refusal(ErrorCode.NOT_FOUND, f"no transaction {txid} is known here", txid=txid)
    return found


def _outpoint(text: str) -> Outpoint:
    outpoint = parse_outpoint(text)
    if outpoint is None:
        raise Refusal(ErrorCode.BAD_FIELD, f"not an outpoint: {text[:100]!r}")
    return outpoint


def _votes(seen: VotesSeen) -> answers.VotesAnswer:
    return answers.VotesAnswer(tuple(seen.lock), tuple(seen.commit), tuple(seen.abort), tuple(seen.rivals))


def _balance(coins: list[Coin], complete: bool) -> answers.Balance:
    sums: dict[Callable[..., Any], int] = {Unspent: 0, Locked: 0, SpentPending: 0}
    for coin in coins:
        sums[type(coin.state)] = sums.get(type(coin.state), 0) + coin.output.amount
    available, locked, pending = sums[Unspent], sums[Locked], sums[SpentPending]
    total = str(available + locked + pending)
    return answers.Balance(str(available), str(locked), str(pending), total, len(coins), complete)
