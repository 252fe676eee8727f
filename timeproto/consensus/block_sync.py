"""Decided blocks that this replica missed: whom to ask, what to hand over, what waits for transactions (protocol §9).

A decided block proves itself by its commit, so it does not matter who sends it; blocks are applied in order of height,
each as soon as its transactions are here.
"""

from __future__ import annotations

from collections.abc import Callable

from timeproto import limits
from timeproto.consensus import answers
from timeproto.consensus.chain import Chain
from timeproto.consensus.finality import Finality
from timeproto.consensus.utxo_state_manager import IllegalTransition
from timeproto.model.block import DecidedBlock
from timeproto.wire import messages


class BlockSync:
    """Where this replica stands in the chain, against its peers."""

    def __init__(self, finality: Finality, chain: Chain) -> None:
        self._finality = finality
        self._chain = chain
        self._heads: dict[str, int] = {}
        self._goals: dict[str, int] = {}
        self._waiting: dict[int, DecidedBlock] = {}
        self.wanted: frozenset[str] = frozenset()
        self._source = ""
        self._lacking = 0
        self._asked: set[str] = set()
        self._served: set[str] = set()
        self._moved = -2

    @property
    def is_behind(self) -> bool:
        """True if an honest masternode has at least two blocks more than this replica."""
        heads = sorted(self._heads.values(), reverse=True)
        faulty = self._finality.masternodes.faulty
        return len(heads) > faulty and heads[faulty] > self._chain.tip.height + 1

    def link_up(self, peer: str) -> None:
        self._asked.discard(peer)
        self._ask(peer)

    def tick(self, peers: list[str]) -> None:
        """Asks again whoever has more, and whoever has not said yet."""
        self._asked.clear()
        self._served.clear()
        for peer in peers:
            if self._heads.get(peer, 0) > self._chain.tip.height or peer not in self._goals:
                self._ask(peer)
        if self._waiting and peers:
            self._fetch(peers[self._finality.tick % len(peers)])

    def heard_of(self, height: int, peer: str, *, is_own: bool) -> None:
        """``peer`` speaks of the agreement at another ``height`` than this replica's; ``is_own``: it is in it."""
        tip = self._chain.tip.height
        if height > tip + 1:
            self._heads[peer] = max(height - 1, self._heads.get(peer, 0))
            self._ask(peer)
        elif height == tip and self._finality.tick <= self._moved + 1:
            return  # of n precommits the last n - q come when q have decided: they say nothing of what is missing there
        elif is_own and peer not in self._served:
            self._served.add(peer)
            self.serve(messages.GetBlocks(since=height - 1), peer)

    def serve(self, request: messages.GetBlocks, peer: str) -> None:
        """A page of the chain after ``request.since``: as many blocks as fit a frame."""
        reply = answers.blocks(request, self._finality.ledger, self._chain.tip.height)
        self._finality.turn.effects.send.append((peer, reply))

    def hear_blocks(self, message: messages.Blocks, peer: str) -> None:
        """Keeps what follows the tip closely enough, and asks on."""
        tip = self._chain.tip.height
        self._heads[peer] = message.head
        self._goals.setdefault(peer, message.head)
        for decided in message.blocks:
            if tip < decided.block.header.height <= tip + limits.BLOCKS_PAGE:
                self._waiting.setdefault(decided.block.header.height, decided)
        self._asked.discard(peer)
        if message.blocks:
            self._source = peer
        self._fetch(peer)

    def advance(self, apply: Callable[[DecidedBlock], None], most: int) -> int:
        """Applies blocks that follow the tip while their transactions are here and at most about ``most`` transactions
        are in them; returns how many blocks."""
        if not self._waiting:
            return 0
        applied = 0
        while most > 0:
            decided = self._waiting.get(self._chain.tip.height + 1)
            missing = () if decided is None else self._chain.missing(decided.block)
            if 0 < len(missing) < self._lacking:
                self._fetch(self._source)  # some came: on with the rest
            for txid in missing:
                if self._finality.is_over(txid):  # what is over is never fetched: this would wait in silence for ever
                    raise IllegalTransition(f"a decided block contains {txid}, which is ended or was never valid")
            if decided is None or missing:
                break
            apply(decided)
            most -= 1 + len(decided.block.transactions)
            applied += 1
            self._waiting.pop(decided.block.header.height, None)
        if applied:
            self._passed()
        return applied

    def passed(self) -> None:
        """The tip moved by this replica's own agreement."""
        self._passed()

    def vouch(self) -> None:
        """Whose blocks are here by now counts for the mandate."""
        for peer, goal in self._goals.items():
            if self._chain.tip.height >= goal:
                self._finality.vote_after(self._finality.mandate.same_chain, peer)

    def _passed(self) -> None:
        tip, self._moved = self._chain.tip.height, self._finality.tick
        self._waiting = {height: decided for height, decided in self._waiting.items() if height > tip}
        self.wanted = frozenset()
        if tip + 1 in self._waiting:
            self._fetch(self._source)
            return
        for peer, head in self._heads.items():
            if head > tip:
                self._ask(peer)

    def _ask(self, peer: str) -> None:
        if peer not in self._asked:
            self._asked.add(peer)
            since = self._chain.tip.height
            while since + 1 in self._waiting:
                since += 1
            request = messages.GetBlocks(since=since)
            self._finality.turn.effects.send.append((peer, request))

    def _fetch(self, peer: str) -> None:
        """The transactions of the next block that are not here."""
        decided = self._waiting.get(self._chain.tip.height + 1)
        missing = () if decided is None else self._chain.missing(decided.block)
        self._lacking = len(missing)
        if missing:
            self.wanted = frozenset(missing)
            self._finality.wanted |= self.wanted
            self._finality.ask_for(missing, peer)
