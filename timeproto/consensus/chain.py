"""The chain of decided blocks: what the next one may hold, and what it must be (protocol §6).

A block is a function of the chain, of what is final in no block yet (in the order in which it became so, if that is
more than a block holds), of the verdicts that can be proved, and of the proposer's place and time: two replicas given
the same build the same bytes. Checking one is building its figures again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

import attrs
import msgspec
from gmpy2 import mpz

from timeproto import limits
from timeproto.consensus.answers import room_for_verdicts, verdict_size
from timeproto.consensus.knowledge import Knowledge
from timeproto.consensus.moved import Moved, Movements
from timeproto.consensus.rounds import Judgement
from timeproto.errors import Refusal
from timeproto.model.block import Block, BlockHeader, DecidedBlock, Verdict, coin_member, make_coinbase
from timeproto.model.genesis import Genesis
from timeproto.model.ledger import ChainTip
from timeproto.model.muhash import MuHash, multiply, product
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import Confirmed, SpentFinalized, holder
from timeproto.model.validation import check_context

SLACK = 1_000
"""Milliseconds before a subsidy is due for which a block says that it is."""


@attrs.frozen
class Missing:
    """A block names these transactions, and they are not here; or, if ``are_here``, they are not final yet."""

    txids: tuple[str, ...]
    are_here: bool = False


class Chain:
    """The tip, and the blocks that may follow it.

    What a transaction does to the commitment is computed when it becomes final and kept as long as its record is at
    hand. Everybody judges a block at the same moment, and 6,000 coins of it took him 50 ms.
    """

    def __init__(self, known: Knowledge) -> None:
        tip = known.ledger.tip()
        if tip is None:
            raise ValueError("the ledger is empty: commit found(ledger, genesis) first")
        self.tip: ChainTip = tip
        self._known = known
        self._coins = MuHash(int(tip.commitment, 16))
        self._computed: dict[str, MuHash] = {}
        self._moved = Movements()

    @property
    def commitment(self) -> str:
        """The digest of the chain's unspent coins."""
        return self._coins.digest

    # -- building ------------------------------------------------------------------------------------

    def build(self, round_: int, now: int, verdicts: Iterable[Verdict]) -> Block:
        """The block this replica proposes in ``round_`` of the next height; ``now`` in Unix ms."""
        known, tip = self._known, self.tip
        chosen = sorted(self._choose(verdicts), key=lambda verdict: verdict.txid)
        txids = in_order(self._in_line(verdict.txid for verdict in chosen if verdict.kind == "commit"))
        within = set(txids)
        chosen = [verdict for verdict in chosen if verdict.kind == "abort" or verdict.txid in within]
        proposer = known.key.public_hex
        height = tip.height + 1
        transactions = [self._require(txid) for txid in txids]
        timestamp = max(now, tip.timestamp + 1)
        if timestamp < tip.due <= now + SLACK:  # a clock that is a little behind costs no subsidy
            timestamp = tip.due
        coinbase = self._coinbase(height, timestamp, proposer, transactions)
        header = BlockHeader(
            height=height,
            parent=tip.hash,
            timestamp=timestamp,
            proposer=proposer,
            round=round_,
            root="0" * 64,
            set=known.masternodes.hash,
            commitment="0" * 64,
        )
        draft = Block(header, coinbase, tuple(txids), tuple(chosen))
        coins = self._after(coinbase, transactions)
        header = msgspec.structs.replace(header, root=draft.tree.root.hex(), commitment=coins.digest)
        self._remember(header.hash(known.genesis.hash), coins)
        return msgspec.structs.replace(draft, header=header)

    def _in_line(self, committed: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Which transactions the block is for, with their parents: what verdicts commit, then what has been final for
        longest. Chosen by txid some would never have their turn while more come than a block holds."""
        chosen: dict[str, tuple[str, ...]] = {}
        for txid in committed:
            family = self._family(txid)
            if len(chosen.keys() | family.keys()) <= limits.BLOCK_TRANSACTIONS:
                chosen |= family
        for txid, parents in self._known.unconfirmed.items():  # no parent stands after its child
            if len(chosen) >= limits.BLOCK_TRANSACTIONS:
                break
            chosen[txid] = parents
        return chosen

    def _family(self, txid: str) -> dict[str, tuple[str, ...]]:
        """A transaction and what must stand before it; no more than a block cannot hold."""
        family: dict[str, tuple[str, ...]] = {}
        left = [txid]
        while left and len(family) <= limits.BLOCK_TRANSACTIONS:
            each = left.pop()
            if each not in family:
                family[each] = self._parents(each)
                left += family[each]
        return family

    @staticmethod
    def _choose(verdicts: Iterable[Verdict]) -> list[Verdict]:
        """As many as fit a block beside a full list of transactions; the rest is for the next one."""
        room = room_for_verdicts()
        chosen: list[Verdict] = []
        for verdict in verdicts:
            room -= verdict_size(verdict)
            if room < 0 or len(chosen) >= limits.BLOCK_VERDICTS:
                break
            chosen.append(verdict)
        return chosen

    @staticmethod
    def is_full_of_verdicts(block: Block) -> bool:
        """True if a block may have left verdicts out for want of room."""
        room = room_for_verdicts() - sum(map(verdict_size, block.verdicts))
        largest = max(map(verdict_size, block.verdicts), default=0)
        return len(block.verdicts) >= limits.BLOCK_VERDICTS or room < largest

    # -- judging -------------------------------------------------------------------------------------

    def missing(self, block: Block) -> tuple[str, ...]:
        """The transactions a block names that are not here."""
        known = self._known
        return tuple(txid for txid in block.transactions if txid not in known.unconfirmed and known.held(txid) is None)

    def judge(self, block: Block, now: int) -> Judgement | Missing:
        """What this replica thinks of a block for the next height; certificates and signatures are checked already."""
        header, tip = block.header, self.tip
        if (header.height, header.parent) != (tip.height + 1, tip.hash) or header.timestamp <= tip.timestamp:
            return Judgement.BAD
        if header.set != self._known.masternodes.hash or header.root != block.tree.root.hex():
            return Judgement.BAD
        if not self._verdicts_may_stand(block) or self._repeats(block):
            return Judgement.BAD
        missing = self.missing(block)
        unproven = () if missing else self._unproven(block)
        if missing or unproven:
            absent = missing or tuple(txid for txid in unproven if self._known.held(txid) is None)
            return Missing(absent or unproven, are_here=not absent)
        if not self._transactions_may_stand(block) or not self._figures_are_right(block):
            return Judgement.BAD
        # The least time that the parent allows is nobody's clock running ahead.
        latest = max(now + int(limits.CLOCK_AHEAD * 1000), tip.timestamp + 1)
        return Judgement.GOOD if header.timestamp <= latest else Judgement.EARLY

    def _verdicts_may_stand(self, block: Block) -> bool:
        """Each in its place, each the first for its transaction; what is final here is not aborted."""
        txids = [verdict.txid for verdict in block.verdicts]
        if txids != sorted(set(txids)):
            return False
        listed = set(block.transactions)
        known = self._known
        for verdict in block.verdicts:
            if known.ending(verdict.txid) is not None or (verdict.txid in listed) != (verdict.kind == "commit"):
                return False
            if verdict.kind == "abort" and known.is_final(verdict.txid):
                return False
        return True

    def _repeats(self, block: Block) -> bool:
        """True if the chain contains one of its transactions already."""
        known = self._known
        return any(txid not in known.unconfirmed and known.is_final(txid) for txid in block.transactions)

    def _unproven(self, block: Block) -> tuple[str, ...]:
        """Transactions that are here, but not final nor committed by the block; or parents that are not."""
        known, committed = self._known, dict.fromkeys(block.committed)
        unproven = [txid for txid in block.transactions if txid not in known.unconfirmed and txid not in committed]
        for txid in committed:
            tx = self._require(txid)
            unproven += [at.txid for at in tx.outpoints if known.manager.get_utxo_info(at) is None]
        return tuple(dict.fromkeys(unproven))

    def _transactions_may_stand(self, block: Block) -> bool:
        """None of them in the chain already, all in the one order there is, no coin spent twice."""
        parents: dict[str, tuple[str, ...]] = {}
        committed = set(block.committed)
        taken: set[Outpoint] = set()
        for txid in block.transactions:
            parents[txid] = self._parents(txid)
            if txid not in committed:
                continue
            tx = self._require(txid)
            if taken.intersection(tx.outpoints) or not self._is_free(tx):
                return False
            taken.update(tx.outpoints)
        if any(parent not in parents for needed in parents.values() for parent in needed):
            return False
        return len(parents) == len(block.transactions) and in_order(parents) == list(block.transactions)

    def _is_free(self, tx: Transaction) -> bool:
        """True if no final transaction but ``tx`` itself spends its coins, and it is valid against them."""
        coins = [self._known.manager.get_utxo_info(outpoint) for outpoint in tx.outpoints]
        present = [coin for coin in coins if coin is not None]
        if len(present) != len(coins):
            return False
        for coin in present:
            if isinstance(coin.state, SpentFinalized | Confirmed) and holder(coin.state) != tx.txid:
                return False
        try:
            check_context(tx, present, self._known.genesis.params)
        except Refusal:
            return False
        return True

    def _figures_are_right(self, block: Block) -> bool:
        """The coinbase and the commitment, made again."""
        known, header = self._known, block.header
        transactions = [self._require(txid) for txid in block.transactions]
        if block.coinbase != self._coinbase(header.height, header.timestamp, header.proposer, transactions):
            return False
        digest = header.hash(known.genesis.hash)
        coins = self._computed.get(digest) or self._after(block.coinbase, transactions)
        if coins.digest != header.commitment:
            return False
        self._remember(digest, coins)
        return True

    def _coinbase(self, height: int, timestamp: int, proposer: str, transactions: Iterable[Transaction]) -> Transaction:
        amount = sum(tx.fee for tx in transactions)
        if timestamp >= self.tip.due:
            amount += self._known.genesis.params.subsidy(self.tip.minted + 1)
        return make_coinbase(height, amount, proposer, self._known.genesis.params)

    # -- going on ------------------------------------------------------------------------------------

    def extend(self, decided: DecidedBlock) -> ChainTip | None:
        """Makes a decided block, whose transactions are here, the tip; None if its figures are not right."""
        if not self._figures_are_right(decided.block):
            return None
        header, digest = decided.block.header, decided.commit.block
        self._coins = self._computed[digest]
        self._computed = {}
        self._moved.remove(decided.block.transactions)
        minted, due = self.tip.minted, self.tip.due
        if header.timestamp >= due:
            # One for each interval, wherever in it a block comes; what is overdue by more than one is lost.
            minted, due = minted + 1, max(due + self._known.genesis.block_interval * 1000, header.timestamp)
        self.tip = ChainTip(header.height, digest, header.timestamp, minted, due, f"{self._coins.value:x}")
        return self.tip

    # -- within --------------------------------------------------------------------------------------

    def _require(self, txid: str) -> Transaction:
        tx = self._known.held(txid)
        assert tx is not None  # asked for only where nothing is missing
        return tx

    def _parents(self, txid: str) -> tuple[str, ...]:
        """Which parents of a transaction must stand before it: those that are in no block yet."""
        unconfirmed = self._known.unconfirmed
        if txid in unconfirmed:
            return tuple(parent for parent in unconfirmed[txid] if parent in unconfirmed)
        parents = dict.fromkeys(outpoint.txid for outpoint in self._require(txid).outpoints)
        return tuple(parent for parent in parents if parent in unconfirmed)

    def prepare(self, txids: Iterable[str]) -> None:
        """These have become final: the next block is for them."""
        for txid in txids:
            tx = self._known.at_hand(txid)
            if tx is not None:
                self._moved_by(tx)

    def _moved_by(self, tx: Transaction) -> Moved:
        moved = self._moved.get(tx.txid)
        if moved is None:
            spent = product(coin_member(outpoint, self._output(outpoint)) for outpoint in tx.outpoints)
            moved = Moved(_made_by(tx), spent)
            if self._known.at_hand(tx.txid) is not None:
                self._moved.add(tx.txid, moved)
        return moved

    def _output(self, outpoint: Outpoint) -> TxOutput:
        """The coin that a transaction of a block spends: here, or made in the block."""
        coin = self._known.manager.get_utxo_info(outpoint)
        return self._require(outpoint.txid).outputs[outpoint.vout] if coin is None else coin.output

    def _after(self, coinbase: Transaction, transactions: Iterable[Transaction]) -> MuHash:
        """The chain's unspent coins after a block. What is made and spent in it cancels out."""
        moved = self._moved.of({tx.txid: self._moved_by(tx) for tx in transactions})
        return self._coins.move(multiply((moved.made, _made_by(coinbase))), moved.spent)

    def _remember(self, digest: str, coins: MuHash) -> None:
        if len(self._computed) >= limits.ROUNDS_KEPT:
            del self._computed[next(iter(self._computed))]
        self._computed[digest] = coins


def in_order(parents: Mapping[str, Iterable[str]]) -> list[str]:
    """The one order of a set of transactions: parents before children, and else the lowest txid first."""
    children: dict[str, list[str]] = {}
    waits_for: dict[str, int] = {}
    for txid, needed in parents.items():
        among = [parent for parent in needed if parent in parents]
        waits_for[txid] = len(among)
        for parent in among:
            children.setdefault(parent, []).append(txid)
    ready = [txid for txid, count in waits_for.items() if count == 0]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        txid = heapq.heappop(ready)
        order.append(txid)
        for child in children.get(txid, ()):
            waits_for[child] -= 1
            if waits_for[child] == 0:
                heapq.heappush(ready, child)
    return order


def first_tip(genesis: Genesis) -> ChainTip:
    """Genesis as the tip before the first block."""
    founded = MuHash().replace(added=(coin_member(*coin) for coin in genesis.coins()))
    time = genesis.timestamp * 1000
    return ChainTip(0, genesis.hash, time, 0, time + genesis.block_interval * 1000, f"{founded.value:x}")


def _made_by(tx: Transaction) -> mpz:
    return product(coin_member(tx.output_outpoint(vout), output) for vout, output in enumerate(tx.outputs))
