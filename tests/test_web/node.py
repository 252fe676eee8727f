"""A node that tests play: real coins, votes, proofs and blocks, and no consensus behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from tests.examples import GENESIS, MASTERNODES, VOTERS, proof_of
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import (
    Block,
    BlockHeader,
    BlockVote,
    BlockVoteKind,
    Commit,
    DecidedBlock,
    Precommit,
    Verdict,
    inclusion_proof,
    leaves,
    make_coinbase,
    sign_block_vote,
    verdict_leaf,
)
from timeproto.model.certificate import FinalityProof, KeptProof, keep
from timeproto.model.genesis import Genesis
from timeproto.model.ledger import ChainTip, Coin, Transition
from timeproto.model.merkle import MerkleTree
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import (
    UNSPENT,
    Confirmed,
    Locked,
    SpentFinalized,
    SpentPending,
    UTXOState,
    holder,
    kind,
)
from timeproto.model.vote import VoteKind
from timeproto.params import COIN
from timeproto.web.feed import Feed
from timeproto.web.view import Figures, VotesSeen
from timeproto.wire import messages

QUORUM = MASTERNODES.quorum
KEYS = [voter.public_hex for voter in VOTERS]


class FakeNode:
    """Implements timeproto.web.view.NodeView; its steps are taken by hand, and told to ``feed``."""

    def __init__(self, clock: Any = None, genesis: Genesis = GENESIS) -> None:
        self.genesis = genesis
        self.node_key = KEYS[0]
        self.clock = clock or Clock()
        self.feed: Feed | None = None
        self.coins: dict[Outpoint, Coin] = {}
        self.log: list[Transition] = []
        self.pruned = self.begins = 0
        self.known: dict[str, messages.TransactionInfo] = {}
        self.seen: dict[str, VotesSeen] = {}
        self.blocks: list[DecidedBlock] = []
        self.pieces: list[Any] = []
        self.figured = Figures()
        self.held: list[Callable[[], None]] | None = None
        self.voting = True
        self._unconfirmed: list[str] = []
        for outpoint, output in genesis.coins():
            self.coins[outpoint] = Coin(output, UNSPENT)

    # -- the view ------------------------------------------------------------------------------------

    def read(self, question: Callable[[], Any]) -> Deferred[Any]:
        """At once, or when ``let_read`` is called while reads are held."""
        answer: Deferred[Any] = Deferred()

        def ask() -> None:
            try:
                answer.callback(question())
            except Exception as error:
                answer.errback(error)

        if self.held is None:
            ask()
        else:
            self.held.append(ask)
        return answer

    def let_read(self) -> None:
        held, self.held = self.held or [], None
        for ask in held:
            ask()

    def submit(self, tx: Transaction) -> Deferred[Any]:
        if tx.computed_txid != tx.txid:
            return fail(Refusal(ErrorCode.TXID_MISMATCH, "the txid is another"))
        for outpoint in tx.outpoints:
            coin = self.coins.get(outpoint)
            if coin is None:
                return fail(Refusal(ErrorCode.UNKNOWN_INPUT, "no such coin", outpoint=str(outpoint)))
            if holder(coin.state) not in (None, tx.txid):
                return fail(Refusal(ErrorCode.DOUBLE_SPEND, "taken", conflicting_txid=holder(coin.state) or ""))
        if tx.txid not in self.known:
            self.lock(tx)
        return succeed(messages.TransactionAccepted(txid=tx.txid))

    def info(self) -> messages.Info:
        states: dict[str, messages.StateCount] = {}
        for coin in self.coins.values():
            name = kind(coin.state)
            old = states.get(name, messages.StateCount(0, "0"))
            states[name] = messages.StateCount(old.coins + 1, str(int(old.amount) + coin.output.amount))
        tip = self.tip()
        peers = tuple(
            messages.PeerInfo(key, f"127.0.0.1:{24100 + at}", "self" if not at else "outbound" if at < 6 else "none")
            for at, key in enumerate(KEYS)
        )
        return messages.Info(
            software="timeproto test", version=1, network=self.genesis.network, genesis=self.genesis.hash,
            node_key=self.node_key, cursor=messages.Cursor(self.node_key, self.position()),
            masternodes=len(KEYS), quorum=QUORUM, connected=6, voting=self.voting,
            not_voting=None if self.voting else "its storage failed", synced=True, height=tip.height, tip=tip.hash,
            commitment=tip.commitment, block_time=tip.timestamp, unconfirmed=len(self._unconfirmed),
            contested=len(self.contested(1_000)), digest="00" * 32, states=states,
            in_flight=sum(1 for each in self.known.values() if each.status == "pending"), waiting=0,
            final=sum(1 for each in self.known.values() if each.status == "final"), evidence=len(self.pieces),
            wallets=3, subscriptions=2, uptime_ms=int(self.clock.seconds() * 1000) % 10**9, peers=peers, limits={},
        )  # fmt: skip

    def tip(self) -> ChainTip:
        if not self.blocks:
            return ChainTip(0, self.genesis.hash, self.genesis.timestamp * 1000, 0, 0, "00" * 32)
        commit, time = self.blocks[-1].commit, self.blocks[-1].block.header.timestamp
        return ChainTip(commit.height, commit.block, time, commit.height, time, "00" * 32)

    def confirmed_height(self) -> int:
        return self.tip().height

    def position(self) -> int:
        return self.begins + len(self.log)

    def log_start(self) -> int:
        return self.begins

    def transitions(self, after: int, limit: int) -> list[Transition]:
        after = max(after - self.begins, self.pruned)
        return self.log[after : after + limit]

    def coin(self, outpoint: Outpoint) -> Coin | None:
        return self.coins.get(outpoint)

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]:
        rows = [
            (isinstance(coin.state, SpentFinalized | Confirmed), outpoint)
            for outpoint, coin in self.coins.items()
            if coin.output.address == address
        ]
        rows = sorted(row for row in rows if spent or not row[0])
        if after is not None and after in self.coins:
            gone = isinstance(self.coins[after].state, SpentFinalized | Confirmed)
            rows = [row for row in rows if row > (gone, after)]
        page = [(outpoint, self.coins[outpoint]) for _, outpoint in rows]
        return page[:limit], len(page) > limit

    def transaction(self, txid: str) -> messages.TransactionInfo | None:
        return self.known.get(txid)

    def trace(self, txid: str) -> messages.Trace | None:
        """What was done by hand, in the words of a node."""
        found, seen = self.known.get(txid), self.seen.get(txid, VotesSeen())
        if found is None:
            return None
        status, stages = found.status, self._stages(txid)
        if status == "pending":
            status = "seen" if not stages else stages[-1].name
        elif status == "final" and found.height is not None:
            status = "confirmed"
        cast = seen.commit if status == "pending" else seen.lock
        rivals = [messages.TraceRival(each, found.tx.outpoints[0], "seen") for each in seen.rivals]
        votes = self.votes(txid) or VotesSeen()
        proved = () if found.proof is None else tuple(vote.voter for vote in found.proof.votes)
        return messages.Trace(
            txid=txid, cursor=messages.Cursor(self.node_key, self.position()), status=status, stages=tuple(stages),
            complete=True, quorum=QUORUM, lock=tuple(votes.lock), commit=proved or tuple(votes.commit),
            abort=tuple(votes.abort), contested=bool(votes.rivals), rivals=tuple(rivals), tx=found.tx,
            waits_for={"seen": "lock", "locked": "lock", "pending": "commit", "final": "block"}.get(status),
            missing=tuple(messages.MissingVoter(key, key != KEYS[-1]) for key in KEYS if key not in cast)
            if found.status == "pending" else (),
            proof=found.proof, height=found.height, inclusion=found.inclusion, conflicting_txid=found.conflicting_txid,
        )  # fmt: skip

    def _stages(self, txid: str) -> list[messages.TraceStage]:
        names = {"Locked": "locked", "SpentPending": "pending", "SpentFinalized": "final", "Confirmed": "confirmed",
                 "Unspent": "aborted"}  # fmt: skip
        moved = [each for each in self.log if each.txid == txid and each.old_state is not None]
        return [messages.TraceStage(name, at) for name, at in  # type: ignore[arg-type]
                {names[kind(each.new_state)]: each.timestamp for each in moved}.items()]

    def votes(self, txid: str) -> VotesSeen | None:
        found = self.known.get(txid)
        return self.seen.get(txid) if found is not None and found.status == "pending" else None

    def contested(self, limit: int) -> list[str]:
        found = [txid for txid, seen in self.seen.items() if seen.rivals and self.votes(txid) is not None]
        return found[:limit]

    def block(self, height: int) -> DecidedBlock | None:
        return self.blocks[height - 1] if 0 < height <= len(self.blocks) else None

    def evidence(self, since: int, limit: int) -> list[Any]:
        return self.pieces[since : since + limit]

    def figures(self) -> Figures:
        return self.figured

    # -- what happens --------------------------------------------------------------------------------

    def now(self) -> int:
        return int(self.clock.seconds() * 1000)

    def _move(self, outpoint: Outpoint, new: UTXOState, txid: str) -> Transition:
        old = self.coins[outpoint]
        self.coins[outpoint] = Coin(old.output, new)
        entry = Transition(self.position() + 1, outpoint, old.output, old.state, new, txid, self.now())
        self.log.append(entry)
        return entry

    def _create(self, outpoint: Outpoint, output: Any, txid: str) -> Transition:
        self.coins[outpoint] = Coin(output, UNSPENT)
        entry = Transition(self.position() + 1, outpoint, output, None, UNSPENT, txid, self.now())
        self.log.append(entry)
        return entry

    def tell(
        self,
        transitions: Sequence[Transition],
        proofs: dict[str, KeptProof] | None = None,
        blocks: Sequence[DecidedBlock] = (),
    ) -> None:
        if self.feed is not None:
            self.feed.broadcast_state_notification(transitions, proofs or {}, blocks)

    def lock(self, tx: Transaction, *rivals: Transaction) -> None:
        """``tx`` is known and holds its coins here; ``rivals`` want one of them too."""
        self.known[tx.txid] = messages.TransactionInfo(tx=tx, status="pending")
        self.seen[tx.txid] = VotesSeen(lock=KEYS[:1], rivals=[rival.txid for rival in rivals])
        for rival in rivals:
            self.known[rival.txid] = messages.TransactionInfo(tx=rival, status="pending")
            self.seen[rival.txid] = VotesSeen(lock=KEYS[1:3], rivals=[tx.txid])
        self.tell([self._move(each, Locked(tx.txid, self.now()), tx.txid) for each in tx.outpoints])

    def pend(self, tx: Transaction) -> None:
        """Its lock certificate is here."""
        self.seen[tx.txid] = VotesSeen(lock=KEYS[:QUORUM], commit=KEYS[:1])
        state = SpentPending(tx.txid, QUORUM, len(KEYS), self.now())
        self.tell([self._move(each, state, tx.txid) for each in tx.outpoints])

    def finalize(self, tx: Transaction) -> FinalityProof:
        """Its finality proof is here, and its outputs with it."""
        proof = proof_of(tx.txid, genesis_hash=self.genesis.hash, beside=["11" * 32, "ee" * 32])
        self.known[tx.txid] = messages.TransactionInfo(tx=tx, status="final", proof=proof)
        state = SpentFinalized(tx.txid, self.now(), QUORUM)
        changed = [self._move(each, state, tx.txid) for each in tx.outpoints]
        changed += [self._create(tx.output_outpoint(at), out, tx.txid) for at, out in enumerate(tx.outputs)]
        self._unconfirmed.append(tx.txid)
        self.tell(changed, {tx.txid: keep(proof)})
        return proof

    def pay(self, tx: Transaction) -> FinalityProof:
        self.lock(tx)
        self.pend(tx)
        return self.finalize(tx)

    def decide(self, *aborted: Transaction) -> DecidedBlock:
        """A block with every final transaction that is in none, and verdicts that end ``aborted``."""
        height = len(self.blocks) + 1
        txids, self._unconfirmed = tuple(self._unconfirmed), []
        fees = sum(self.known[txid].tx.fee for txid in txids)
        proposer = KEYS[height % len(KEYS)]
        coinbase = make_coinbase(height, fees + COIN, proposer, self.genesis.params)
        verdicts = tuple(
            Verdict("abort", tx.txid, proof_of(tx.txid, kind=VoteKind.ABORT, genesis_hash=self.genesis.hash).votes)
            for tx in sorted(aborted, key=lambda tx: tx.txid)
        )
        listed = leaves(coinbase, txids, verdicts)
        root = MerkleTree(listed).root.hex()
        header = BlockHeader(height, self.tip().hash, self.now(), proposer, 0, root, MASTERNODES.hash, "00" * 32)
        decided = DecidedBlock(Block(header, coinbase, txids, verdicts), self._commit(header))
        self.blocks.append(decided)
        changed = []
        for at, txid in enumerate(txids):
            tx, proof = self.known[txid].tx, self.known[txid].proof
            inclusion = inclusion_proof(decided, 1 + at)
            self.known[txid] = messages.TransactionInfo(
                tx=tx, status="final", proof=proof, height=height, inclusion=inclusion
            )
            state = Confirmed(txid, height, self.now())
            changed += [self._move(each, state, txid) for each in tx.outpoints]
        for tx in aborted:
            inclusion = inclusion_proof(decided, listed.index(verdict_leaf("abort", tx.txid)))
            self.known[tx.txid] = messages.TransactionInfo(tx=tx, status="aborted", height=height, inclusion=inclusion)
            held = [each for each in tx.outpoints if holder(self.coins[each].state) == tx.txid]
            changed += [self._move(each, UNSPENT, tx.txid) for each in held]
        changed += [
            self._create(coinbase.output_outpoint(at), out, coinbase.txid) for at, out in enumerate(coinbase.outputs)
        ]
        self.known[coinbase.txid] = messages.TransactionInfo(
            tx=coinbase, status="final", height=height, inclusion=inclusion_proof(decided, 0)
        )
        self.tell(changed, None, [decided])
        return decided

    def _commit(self, header: BlockHeader) -> Commit:
        block = header.hash(self.genesis.hash)
        signatures = []
        for voter in VOTERS[:QUORUM]:
            unsigned = BlockVote(
                BlockVoteKind.PRECOMMIT, voter.public_hex, MASTERNODES.hash, header.height, 0, block, None, "0" * 128
            )
            signed = sign_block_vote(voter, self.genesis.hash, unsigned)
            signatures.append(Precommit(voter.public_hex, signed.signature))
        return Commit(header.height, 0, block, MASTERNODES.hash, tuple(signatures))
