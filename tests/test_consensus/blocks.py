"""One replica among masternodes that the test plays, with blocks: what each of them would propose, say and decide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tests.test_consensus.alone import Alone
from timeproto.consensus.effects import Effects, Timer, Wake
from timeproto.model.block import (
    NO_BLOCK,
    Block,
    BlockHeader,
    BlockVote,
    BlockVoteKind,
    Commit,
    DecidedBlock,
    Precommit,
    Verdict,
    coin_member,
    make_coinbase,
    sign_block_vote,
)
from timeproto.model.certificate import SignedVote, signed_vote
from timeproto.model.ledger import Store
from timeproto.model.muhash import MuHash
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.vote import VoteKind, sign_batch
from timeproto.wire import messages

PROPOSAL, PREVOTE, PRECOMMIT = BlockVoteKind.PROPOSAL, BlockVoteKind.PREVOTE, BlockVoteKind.PRECOMMIT
replace = msgspec.structs.replace


class Chained(Alone):
    """Adds the chain as the test knows it: ``height``, ``parent``, ``unspent`` coins, kept without the code tested."""

    def __init__(self, n: int = 4, *, store: Store | None = None, **more: Any) -> None:
        super().__init__(n, store=store, **more)
        self.height = 1
        """That of the next block."""
        self.parent = self.genesis.hash
        self.time = self.genesis.timestamp * 1000
        self.minted = 0
        self.due = self.time + self.genesis.block_interval * 1000
        self.unspent: dict[Outpoint, TxOutput] = dict(self.genesis.coins())
        self.set = self.genesis.masternode_set

    # -- who -----------------------------------------------------------------------------------------

    def proposer(self, round_: int = 0) -> int:
        """Whose turn it is, as a number of a key."""
        turn = self.set.keys[(self.height + round_) % len(self.set)]
        return next(at for at, key in enumerate(self.keys) if key.public_hex == turn)

    def round_of(self, number: int, since: int = 0) -> int:
        """The first round from ``since`` in which masternode ``number`` proposes."""
        return next(round_ for round_ in range(since, since + len(self.keys)) if self.proposer(round_) == number)

    @property
    def others(self) -> list[int]:
        return list(range(1, len(self.keys)))

    # -- blocks --------------------------------------------------------------------------------------

    def block(
        self,
        transactions: Sequence[Transaction] = (),
        verdicts: Sequence[Verdict] = (),
        *,
        round_: int = 0,
        proposer: int | None = None,
        **header: Any,
    ) -> Block:
        """The next block with these contents in this order, all its figures right; then ``header`` is changed."""
        owner = self.keys[self.proposer(round_) if proposer is None else proposer].public_hex
        time = header.get("timestamp", max(self.now, self.time + 1))
        subsidy = self.genesis.params.subsidy(self.minted + 1) if time >= self.due else 0
        amount = sum(tx.fee for tx in transactions) + subsidy
        coinbase = make_coinbase(self.height, amount, owner, self.genesis.params)
        coins = self.coins_after([coinbase, *transactions])
        commitment = MuHash().replace(added=(coin_member(*coin) for coin in coins.items())).digest
        head = BlockHeader(self.height, self.parent, time, owner, round_, NO_BLOCK, self.set.hash, commitment)
        draft = Block(head, coinbase, tuple(tx.txid for tx in transactions), tuple(verdicts))
        return replace(draft, header=replace(head, root=draft.tree.root.hex(), **header))

    def coins_after(self, transactions: Iterable[Transaction]) -> dict[Outpoint, TxOutput]:
        coins = dict(self.unspent)
        for tx in transactions:
            for outpoint in tx.outpoints:
                coins.pop(outpoint, None)
            coins.update((tx.output_outpoint(vout), output) for vout, output in enumerate(tx.outputs))
        return coins

    def hash(self, block: Block) -> str:
        return block.header.hash(self.genesis.hash)

    def verdict(self, tx: Transaction, kind: str, voters: Iterable[int] | None = None) -> Verdict:
        """With the certificate of ``voters``, the last q by default."""
        vote = VoteKind.LOCK if kind == "commit" else VoteKind.ABORT
        return Verdict(kind, tx.txid, self.certificate(tx, vote, voters))  # type: ignore[arg-type]

    def certificate(
        self, tx: Transaction, kind: VoteKind, voters: Iterable[int] | None = None
    ) -> tuple[SignedVote, ...]:
        chosen = list(voters) if voters is not None else list(range(len(self.keys)))[-self.quorum :]
        found = []
        for voter in chosen:
            votes = {kind.name.lower(): [tx.txid]}
            batch = sign_batch(self.keys[voter], self.genesis.hash, self.set.hash, self.height - 1, **votes)  # type: ignore[arg-type]
            found.append(signed_vote(batch, batch.index(kind, tx.txid)))
        return tuple(found)

    def decided(self, block: Block, voters: Iterable[int] | None = None, round_: int | None = None) -> DecidedBlock:
        """With the precommits of ``voters``, the last q by default, in the block's own round by default."""
        chosen = list(voters) if voters is not None else list(range(len(self.keys)))[-self.quorum :]
        at = block.header.round if round_ is None else round_
        words = [self.word(PRECOMMIT, voter, at, block) for voter in chosen]
        signatures = tuple(Precommit(word.voter, word.signature) for word in words)
        return DecidedBlock(block, Commit(block.header.height, at, self.hash(block), self.set.hash, signatures))

    def passed(self, block: Block, transactions: Iterable[Transaction] = ()) -> None:
        """The test's own chain goes on to ``block``, whose transactions these are."""
        self.unspent = self.coins_after([block.coinbase, *transactions])
        if block.header.timestamp >= self.due:
            self.minted += 1
            self.due = max(self.due + self.genesis.block_interval * 1000, block.header.timestamp)
        self.height, self.parent, self.time = self.height + 1, self.hash(block), block.header.timestamp

    def decide(self, transactions: Sequence[Transaction] = (), verdicts: Sequence[Verdict] = (), **more: Any) -> Block:
        """The others decide the next block and show it to the replica, which has or gets its transactions."""
        block = self.block(transactions, verdicts, **more)
        self.hear(messages.Blocks(blocks=(self.decided(block),), head=self.height))
        self.passed(block, transactions)
        return block

    # -- words ---------------------------------------------------------------------------------------

    def word(
        self,
        kind: BlockVoteKind,
        voter: int,
        round_: int,
        block: Block | str | None,
        valid_round: int | None = None,
        height: int | None = None,
    ) -> BlockVote:
        digest = self.hash(block) if isinstance(block, Block) else block
        key, at = self.keys[voter], self.height if height is None else height
        unsigned = BlockVote(kind, key.public_hex, self.set.hash, at, round_, digest, valid_round, "0" * 128)
        return sign_block_vote(key, self.genesis.hash, unsigned)

    def proposal(
        self, block: Block, round_: int = 0, valid_round: int | None = None, voter: int | None = None
    ) -> messages.BlockProposal:
        """The word of whose turn it is, with the polka of ``valid_round`` by the last q."""
        who = self.proposer(round_) if voter is None else voter
        polka: tuple[BlockVote, ...] = ()
        if valid_round is not None:
            polka = tuple(self.word(PREVOTE, each, valid_round, block)
                          for each in list(range(len(self.keys)))[-self.quorum :])
        vote = self.word(PROPOSAL, who, round_, block, valid_round)
        return messages.BlockProposal(vote=vote, block=block, polka=polka)

    def propose(
        self, block: Block, round_: int = 0, valid_round: int | None = None, peer: int | None = None
    ) -> Effects:
        message = self.proposal(block, round_, valid_round)
        return self.hear(message, self.proposer(round_) if peer is None else peer)

    def say(self, kind: BlockVoteKind, round_: int, block: Block | None, voters: Iterable[int] | None = None) -> None:
        """Each of ``voters``, all the others by default, says so."""
        for voter in self.others if voters is None else voters:
            self.hear(self.word(kind, voter, round_, block), voter)

    # -- time ----------------------------------------------------------------------------------------

    def wake(self, what: Timer = Timer.HEIGHT, round_: int = 0) -> Effects:
        return self.act(Wake(self.replica.height + 1, round_, what))

    def begin(self) -> Effects:
        """The interval has passed: the replica enters the first round."""
        return self.wake()

    # -- looking -------------------------------------------------------------------------------------

    def said(self, since: int = 0) -> list[tuple[str, int, str | None]]:
        """(kind, round, block) of every word about the next height that the replica sent to all, in order."""
        found = []
        for effects in self.node.effects[since:]:
            for to, message in effects.send:
                vote = message.vote if isinstance(message, messages.BlockProposal) else message
                if to is None and isinstance(vote, BlockVote) and vote.height == self.height:
                    found.append((str(vote.kind), vote.round, vote.block))
        return found

    @property
    def tip(self) -> int:
        """The last height committed."""
        tip = self.store.tip()
        assert tip is not None
        return tip.height

    def alarms(self) -> list[str]:
        return [effects.alarm for effects in self.node.effects if effects.alarm is not None]
