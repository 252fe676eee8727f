"""What a decided block may be (protocol §5, §6), by a chain of the checkers' own: every figure is made again from the
blocks alone, by other code than the replicas'."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from timeproto import limits
from timeproto.errors import Refusal
from timeproto.model.address import address_of
from timeproto.model.block import BlockHeader, DecidedBlock, coin_member, leaves
from timeproto.model.canonical import sha256, u64
from timeproto.model.genesis import Genesis
from timeproto.model.ledger import ChainTip, Changes
from timeproto.model.merkle import MerkleTree
from timeproto.model.muhash import MODULUS, SIZE, number_of
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.model.vote import VoteKind
from timeproto.sim.masternode import Masternode
from timeproto.sim.promises import Broken
from timeproto.sim.scene import Scene
from timeproto.sim.trace import short
from timeproto.sim.vote_checks import VoteChecks


class ChainChecks:
    """``heights`` says which block contains a transaction; ``minted`` and ``fees`` are sums by height; ``ended`` has
    what each block ended."""

    def __init__(self, scene: Scene, votes: VoteChecks, latest: Callable[[], int]) -> None:
        """``latest``: what the fastest clock of an honest masternode has shown, in Unix ms."""
        self.heights: dict[str, int] = {}
        self.minted = [0]
        self.fees = [0]
        self.aborted: dict[str, int] = {}
        self.ended: list[list[str]] = [[]]
        self.headers: list[BlockHeader] = []
        self._genesis, self._book, self._tally = scene.genesis, scene.book, scene.tally
        self._votes = votes
        self._latest = latest
        self._hashes = [scene.genesis.hash]
        self._subsidies = [(0, (scene.genesis.timestamp + scene.genesis.block_interval) * 1000)]
        self._decided: list[DecidedBlock] = []
        self._coins: dict[Outpoint, TxOutput] = dict(scene.genesis.coins())
        self._commitments: list[int] = []
        self._made, self._spent = founded_product(scene.genesis), 1
        self._numbers: dict[Outpoint, int] = {}

    @property
    def height(self) -> int:
        return len(self._decided)

    def committed(self, node: Masternode, changes: Changes, height: int) -> int:
        """``height`` is the node's before; returns the one after."""
        for decided in changes.blocks:
            height += 1
            if decided.block.header.height != height:
                raise Broken(5, "I-11", f"{short(node.name)} wrote block {decided.block.header.height} as {height}")
            if height > self.height:
                self._extend(decided)
                self._check_commitment(changes.tip, decided)
            self._require_same(node, decided)
            self._require_marked(node, height - limits.CONFIRM_BLOCKS)
        if changes.blocks:
            tip = changes.tip
            if tip is None or (tip.height, tip.hash) != (height, self._hashes[height]):
                raise Broken(5, "I-11", f"{short(node.name)} has another tip at height {height}: {tip}")
            if (tip.minted, tip.due) != self._subsidies[height]:
                raise Broken(3, "I-7", f"{short(node.name)} counts other subsidies at height {height}: {tip}")
            if int(tip.commitment, 16) != self._commitments[height - 1]:
                raise Broken(5, "I-11", f"{short(node.name)} has another commitment at height {height}")
        return height

    def is_marked(self, node: Masternode, height: int) -> bool:
        """True if a node's records say of all that block ``height`` contains that it does."""
        records = map(node.store.transaction, self._decided[height - 1].block.transactions)
        return all(record is not None and record.height == height for record in records)

    def _require_marked(self, node: Masternode, height: int) -> None:
        if height > 0 and not self.is_marked(node, height):
            raise Broken(5, "I-12", f"{short(node.name)} goes on before all of block {height} is Confirmed")

    def _require_same(self, node: Masternode, decided: DecidedBlock) -> None:
        height = decided.block.header.height
        first = self._decided[height - 1]
        if decided is first or decided == first:
            return
        if decided.block.header != first.block.header or decided.block.tree.root != first.block.tree.root:
            raise Broken(5, "I-11", f"{short(node.name)} decided another block {height}")
        self._check_commit(decided)

    # -- the chain of the checkers -------------------------------------------------------------------

    def _extend(self, decided: DecidedBlock) -> None:
        block, header = decided.block, decided.block.header
        height = self.height + 1
        where = f"block {height}"
        previous = self.headers[-1].timestamp if self.headers else self._genesis.timestamp * 1000
        keys = self._genesis.masternode_set.keys
        latest = max(self._latest() + int(limits.CLOCK_AHEAD * 1000), previous + 1)
        for fault, what in (
            (header.parent != self._hashes[-1], "another parent"),
            (header.timestamp <= previous, "a time before its parent's"),
            (header.timestamp > latest, "a time far ahead of every honest clock"),
            (header.set != self._genesis.masternode_set.hash, "another masternode set"),
            (header.proposer != keys[(height + header.round) % len(keys)], "a proposer whose turn it was not"),
            (header.round > decided.commit.round, "a round later than its commit's"),
        ):
            if fault:
                raise Broken(5, "I-12", f"{where} has {what}")
        tree = MerkleTree(leaves(block.coinbase, block.transactions, block.verdicts))
        if tree.root.hex() != header.root:
            raise Broken(5, "I-12", f"{where} has another root than its contents")
        self._check_commit(decided)
        self.ended.append([])
        self._check_verdicts(decided, where)
        fees = self._spend(decided, where)
        self._check_coinbase(decided, fees, where)
        minted = {block.coinbase.output_outpoint(vout): output for vout, output in enumerate(block.coinbase.outputs)}
        self._coins |= minted
        self._move(minted, ())
        self._book.add_coinbase(block.coinbase)
        self._hashes.append(header.hash(self._genesis.hash))
        self.headers.append(header)
        self._decided.append(decided)
        self._count(decided)

    def _check_commit(self, decided: DecidedBlock) -> None:
        commit, header = decided.commit, decided.block.header
        members = self._genesis.masternode_set
        voters = {signed.voter for signed in commit.signatures}
        signed = all(vote.verify(self._genesis.hash) for vote in commit.votes())
        named = (commit.height, commit.block, commit.set)
        if (
            named != (header.height, header.hash(self._genesis.hash), members.hash)
            or len(voters) != len(commit.signatures)
            or len(voters) < members.quorum
            or not voters <= set(members.keys)
            or not signed
        ):
            raise Broken(5, "I-5", f"block {header.height} is decided by {len(voters)} votes that do not hold")

    def _check_verdicts(self, decided: DecidedBlock, where: str) -> None:
        block = decided.block
        txids = [verdict.txid for verdict in block.verdicts]
        if txids != sorted(set(txids)):
            raise Broken(5, "I-12", f"{where} has verdicts out of order")
        listed = set(block.transactions)
        for verdict in block.verdicts:
            try:
                verdict.check(self._genesis.masternode_set, self._genesis.hash)
            except Refusal as refusal:
                raise Broken(1, "I-5", f"{where}: {refusal}") from None
            if verdict.txid in self._votes.endings or (verdict.txid in listed) != (verdict.kind == "commit"):
                raise Broken(5, "I-12", f"{where} has a second verdict for {short(verdict.txid)}, or one out of place")
            if verdict.kind == "abort" and self._votes.can_have_quorum(VoteKind.COMMIT, verdict.txid):
                raise Broken(2, "I-4", f"{where} aborts {short(verdict.txid)}, which can be proven final")
            if verdict.kind == "abort" and verdict.txid in self.heights:
                raise Broken(2, "I-4", f"{where} aborts {short(verdict.txid)}, which a block contains")
        for txid in block.aborted:
            self.aborted[txid] = block.header.height
            self._end(txid, block.header.height)

    def _spend(self, decided: DecidedBlock, where: str) -> int:
        """Moves the coins; returns the fees."""
        block, height = decided.block, decided.block.header.height
        committed = set(block.committed)
        parents: dict[str, list[str]] = {}
        fees = 0
        for txid in block.transactions:
            entry = self._book.entries.get(txid)
            if entry is None or not entry.valid:
                raise Broken(3, "I-6", f"{where} contains {short(txid)}, which is not valid")
            if txid in self.heights or txid in self._votes.endings:
                raise Broken(5, "I-12", f"{where} contains {short(txid)}, which is decided already")
            kind = VoteKind.LOCK if txid in committed else VoteKind.COMMIT
            if not self._votes.can_have_quorum(kind, txid):
                raise Broken(5, "I-12", f"{where} contains {short(txid)}, which cannot be final")
            parents[txid] = [each.txid for each in entry.tx.outpoints if self.heights.get(each.txid) == height]
            spent = []
            for outpoint in entry.tx.outpoints:
                output = self._coins.pop(outpoint, None)
                if output is None:
                    raise Broken(5, "I-12", f"{where} spends {outpoint}, which is not in the chain")
                spent.append((outpoint, output))
            made = {entry.tx.output_outpoint(vout): output for vout, output in enumerate(entry.tx.outputs)}
            self._coins |= made
            self._move(made, spent)
            self.heights[txid] = height
            fees += self._book.fee(txid)
            for rival in self._book.rivals(txid):
                if rival in self.heights:
                    raise Broken(1, "I-1", f"the chain contains {short(txid)} and {short(rival)}")
                if rival not in self._votes.endings:
                    self._end(rival, height)
        if list(block.transactions) != _in_order(parents):
            raise Broken(5, "I-12", f"{where} has its transactions out of order")
        return fees

    def _end(self, txid: str, height: int) -> None:
        self._votes.endings[txid] = height
        self.ended[height].append(txid)

    def _check_coinbase(self, decided: DecidedBlock, fees: int, where: str) -> None:
        block, header = decided.block, decided.block.header
        params = self._genesis.params
        minted, due = self._subsidies[-1]
        subsidy = 0
        if header.timestamp >= due:
            minted, subsidy = minted + 1, params.subsidy(minted + 1)
            due = max(due + self._genesis.block_interval * 1000, header.timestamp)
        amount = fees + subsidy
        paid = [(output.amount, output.address) for output in block.coinbase.outputs]
        expected = [(amount, address_of(bytes.fromhex(header.proposer), params))] if amount else []
        mark = bytes(block.coinbase.inputs[0].script_sig)
        if paid != expected or mark != u64(header.height) + bytes(24) or block.coinbase.txid in self.heights:
            raise Broken(3, "I-7", f"{where} pays {paid}, and {expected} is due")
        self.heights[block.coinbase.txid] = header.height
        self.minted.append(self.minted[-1] + subsidy)
        self._subsidies.append((minted, due))
        self.fees.append(self.fees[-1] + fees)

    # -- the commitment, in two ways -----------------------------------------------------------------

    def _move(self, made: dict[Outpoint, TxOutput], spent: Iterable[tuple[Outpoint, TxOutput]]) -> None:
        """All coins there ever were, and all that are gone, each side multiplied: no division anywhere."""
        for outpoint, output in made.items():
            self._made = self._made * self._number(outpoint, output) % MODULUS
        for outpoint, output in spent:
            self._spent = self._spent * self._number(outpoint, output) % MODULUS

    def _number(self, outpoint: Outpoint, output: TxOutput) -> int:
        number = self._numbers.get(outpoint)
        if number is None:
            number = self._numbers[outpoint] = number_of(coin_member(outpoint, output))
        return number

    def _check_commitment(self, tip: ChainTip | None, decided: DecidedBlock) -> None:
        header = decided.block.header
        value = 0 if tip is None or tip.height != header.height else int(tip.commitment, 16)
        if value == 0:
            value = self._from_scratch()  # the masternode wrote more than one block
        if value * self._spent % MODULUS != self._made or _digest(value) != header.commitment:
            raise Broken(5, "I-11", f"block {header.height} has another commitment than its coins")
        self._commitments.append(value)

    def _from_scratch(self) -> int:
        """The commitment of the coins that are there now, and of nothing else."""
        total = 1
        for outpoint, output in self._coins.items():
            total = total * self._number(outpoint, output) % MODULUS
        return total

    def conclude(self) -> None:
        """At the end of the run: one more time from the coins alone."""
        if self._commitments and self._from_scratch() != self._commitments[-1]:
            raise Broken(5, "I-11", f"the commitment at height {self.height} is not the one of its coins")

    def _count(self, decided: DecidedBlock) -> None:
        tally, block = self._tally, decided.block
        tally.count("blocks")
        tally.count("block transactions", len(block.transactions))
        tally.count("verdicts", len(block.verdicts))
        for verdict in block.verdicts:
            tally.saw(f"verdict {verdict.kind}")
        if decided.commit.round > 0:
            tally.saw("decided in a later round")
        if block.header.round < decided.commit.round:
            tally.saw("decided what an earlier round proposed")
        if not block.transactions and not block.verdicts:
            tally.count("empty blocks")


@lru_cache(maxsize=16)
def founded_product(genesis: Genesis) -> int:
    """The coins of genesis multiplied."""
    total = 1
    for outpoint, output in genesis.coins():
        total = total * number_of(coin_member(outpoint, output)) % MODULUS
    return total


def _digest(value: int) -> str:
    return sha256(value.to_bytes(SIZE, "little")).hex()


def _in_order(parents: dict[str, list[str]]) -> list[str]:
    """Parents first, and of those that may come next the lowest txid: the plain way."""
    order: list[str] = []
    left = dict(parents)
    while left:
        ready = min((txid for txid, needed in left.items() if not any(each in left for each in needed)), default=None)
        if ready is None:
            break
        order.append(ready)
        del left[ready]
    return order
