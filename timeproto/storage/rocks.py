"""The store on disk: RocksDB, one synchronous write batch for each change set.

Where a lock is made durable: :meth:`RocksStore.commit`. A batch is applied whole or not at all, and is on the disk
when the call returns. After a power cut the store opens with every change set that was promised; a damaged one
refuses to open or to be read (see storage.rows).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import WriteBatch

from timeproto.errors import ConfigurationError, StorageError
from timeproto.model.block import Block, DecidedBlock
from timeproto.model.ledger import (
    BlockEvidence,
    ChainTip,
    Changes,
    Coin,
    Ending,
    Evidence,
    OwnVotes,
    SignState,
    Summary,
    TransactionRecord,
    Transition,
)
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import UTXOState
from timeproto.model.vote import VoteBatch
from timeproto.storage import packed, schema
from timeproto.storage.identity import check_identity
from timeproto.storage.memory import is_spent
from timeproto.storage.rows import Rows, open_rows
from timeproto.wire.codec import pack

COMMITS_KEPT = 2**18
"""Numbers of the newest commits, kept in a ring and counted at a start: more than the logs hold, which are two write
buffers long, for each commit takes more than 256 bytes."""


def open_store(path: Path | str, genesis_hash: str, node_key: str) -> RocksStore:
    """Opens the store in ``path``, made if it is not there, for one node of one network.

    :class:`ConfigurationError` if it is another's, :class:`IdentityConflict` if another process has it open,
    :class:`StorageError` if it is damaged.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the store {folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f"the store {folder} is not writable")
    rows = open_rows(folder, node_key)
    try:
        check_identity(rows, folder, genesis_hash, node_key)
        return RocksStore(rows)
    except BaseException:
        with suppress(StorageError):
            rows.close()
        raise


class RocksStore:
    """Implements :class:`timeproto.model.ledger.Store`. One thread commits at a time.

    A read may run in another thread, but one that looks at more than one key can straddle a commit: the node reads
    only between two. A failed commit ends the commits; what was committed before can still be read. After
    :meth:`close` nothing can: everything raises :class:`StorageError`.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._broken: str | None = None
        self._closed = False
        self._last_commit = self._count_commits()
        # The places that a transaction leaves one day, by txid: to read them back cost a sixth of a commit.
        self._orders = {txid: key[1:] for key, txid in rows.scan(b"p")}
        self._waiting = {txid: key[1:] for key, txid in rows.scan(b"q")}
        self._has_endings = any(True for _ in rows.scan(b"x"))
        self._require_whole()
        self._next_order, self._next_evidence, self._next_block = map(self._end, (b"p", b"e", b"d"))
        self._undecided = self._find_undecided()

    def _end(self, prefix: bytes) -> int:
        """The number after the last of a numbered table."""
        last = self._rows.last_number(prefix)
        return 0 if last is None else last + 1

    def _find_undecided(self) -> dict[int, Block]:
        """What was signed about last, by number; of it the chain keeps what was decided."""
        raw = self._rows.get(schema.SIGN_STATE)
        undecided = {}
        for number in () if raw is None else schema.read_signed(raw).blocks:
            block = self._block(number)
            decided = self._decided(block.header.height)
            if decided is None or decided.block != number:
                undecided[number] = block
        return undecided

    def _count_commits(self) -> int:
        """The number of the last commit. None before it may be missing that a log may still have held: RocksDB opens
        a store whose older log lost its end, and a change set lost in the middle may have been a promise not to sign
        twice."""
        slots = [(schema.number_of(key[1:]), schema.number_of(raw)) for key, raw in self._rows.scan(b"n")]
        last = max((number for _, number in slots), default=0)
        oldest = max(1, last + 1 - COMMITS_KEPT)
        lost = last + 1 - oldest - len(slots)
        if lost or any(number < oldest or number % COMMITS_KEPT != slot for slot, number in slots):
            raise StorageError(f"the store is damaged: of its {last} commits some are missing")
        return last

    def _require_whole(self) -> None:
        """The summary, the tip, the tables that have no gaps and the lists of what is not over must tell of the same
        moment."""
        summary, tip = self.summary(), self.tip()
        position = finalized = batches = height = start = 0
        if summary is not None:
            position, start = summary.position, summary.log_start
            finalized, batches = summary.finalized, summary.batches
        if tip is not None:
            height = tip.height
        if (self._end(b"k") or 1) != height + 1 or (height and self.block(height) is None):
            raise StorageError("the store is damaged: its last block is not the one it names")
        if (self._end(b"l") or start + 1) != position + 1:
            raise StorageError(f"the store is damaged: it does not hold the {position} transitions that it counts")
        if self._end(b"f") != finalized or self._end(b"b") != batches:
            raise StorageError("the store is damaged: it does not hold the payments and votes that it counts")
        raw = self._rows.get(schema.SUMMARY)
        pending, waiting = (0, 0) if raw is None else schema.read_listed(raw)
        if len(self._orders) != pending:
            raise StorageError(f"the store is damaged: it does not list the {pending} payments that are not final")
        if len(self._waiting) != waiting or not self._are_final(self._waiting):
            raise StorageError("the store is damaged: what waits for a block is not what became final")

    def _are_final(self, places: Mapping[bytes, bytes]) -> bool:
        """Whether each of these txids became final at its place."""
        if not places:
            return True
        wanted = {schema.number_of(place): txid.hex() for txid, place in places.items()}
        finals = enumerate(self._finals(min(wanted)), min(wanted))
        found = {index: txid for index, txid in finals if index in wanted}
        return found == wanted

    # -- writing -------------------------------------------------------------------------------------

    def commit(self, changes: Changes) -> None:
        if self._closed or self._broken is not None:
            raise StorageError(f"the store takes nothing more: {self._broken or 'it is closed'}")
        try:
            self._rows.write(self._batch_of(changes))
        except Exception as error:
            # What the disk holds now is unknown, so nothing may follow (a second fsync can lie).
            self._broken = str(error)
            raise StorageError(f"a change could not be made durable: {error}") from error

    def _batch_of(self, changes: Changes) -> WriteBatch:
        batch = WriteBatch(raw_mode=True)
        self._last_commit += 1
        batch.put(schema.numbered(b"n", self._last_commit % COMMITS_KEPT), schema.number(self._last_commit))
        self._put_coins(batch, changes)
        for txid, record in changes.transactions.items():
            self._put_transaction(batch, txid, record)
        for txid, votes in changes.own_votes.items():
            batch.put(schema.named(b"v", txid), pack(votes))
        for number, own in changes.batches.items():
            batch.put(schema.numbered(b"b", number), pack(own))
        for some in packed.rows_of(changes.transitions):
            batch.put(schema.numbered(b"l", some[-1].position), packed.pack_transitions(some))
        first = end = changes.summary.finalized - len(changes.finalized)
        for txids in packed.rows_of(changes.finalized):
            end += len(txids)
            batch.put(schema.numbered(b"f", end - 1), packed.pack_finals(txids))
        for index, txid in enumerate(changes.finalized, first):
            self._await_block(batch, index, txid, changes)
        for evidence in changes.evidence:
            batch.put(schema.numbered(b"e", self._next_evidence), pack(evidence))
            self._next_evidence += 1
        for key, position in changes.caught_up.items():
            batch.put(schema.named(b"u", key), schema.number(position))
        self._put_chain(batch, changes)
        batch.put(schema.SUMMARY, schema.pack_summary(changes.summary, len(self._orders), len(self._waiting)))
        return batch

    def _put_chain(self, batch: WriteBatch, changes: Changes) -> None:
        self._put_blocks(batch, changes)
        for txid, ending in changes.endings.items():
            self._has_endings = True
            batch.put(schema.named(b"x", txid), pack(ending))
        if changes.tip is not None:
            batch.put(schema.TIP, pack(changes.tip))

    def _put_blocks(self, batch: WriteBatch, changes: Changes) -> None:
        """A block is written once, though what is signed names it again and again until it is decided; it goes with
        the next sign state that does not, unless it was decided."""
        state = changes.sign_state
        if state is not None:
            numbers = tuple(self._number(batch, block) for block in state.blocks)
            batch.put(schema.SIGN_STATE, pack(schema.SignedRecord(msgspec.structs.replace(state, blocks=()), numbers)))
        decided = [self._number(batch, each.block) for each in changes.blocks]
        for number, each in zip(decided, changes.blocks, strict=True):
            batch.put(schema.numbered(b"k", each.block.header.height), pack(schema.DecidedRecord(number, each.commit)))
        for number in decided:
            self._undecided.pop(number, None)
        if state is not None:
            for number in self._undecided.keys() - numbers:
                batch.delete(schema.numbered(b"d", number))
                del self._undecided[number]

    def _number(self, batch: WriteBatch, block: Block) -> int:
        """Where a block is kept; it is put there if it is not there yet."""
        for number, kept in self._undecided.items():
            if kept == block:
                return number
        number = self._next_block
        self._next_block += 1
        batch.put(schema.numbered(b"d", number), schema.pack_block(block))
        self._undecided[number] = block
        return number

    def _await_block(self, batch: WriteBatch, index: int, txid: str, changes: Changes) -> None:
        """A transaction that became final waits for a block, unless it came by one."""
        record = changes.transactions.get(txid)
        if record is None or record.height is None:
            name = bytes.fromhex(txid)
            place = self._waiting[name] = schema.number(index)
            batch.put(b"q" + place, name)

    def _put_coins(self, batch: WriteBatch, changes: Changes) -> None:
        told: dict[Outpoint, UTXOState | None] = {}
        for transition in changes.transitions:
            told.setdefault(transition.outpoint, transition.old_state)
        for outpoint, coin in changes.coins.items():
            key, address, spent = schema.coin_key(outpoint), coin.output.address, is_spent(coin.state)
            # A coin's transition says what it was, so that the coins of a block need no read (half of the time).
            before = told[outpoint] if outpoint in told else self._state(key)
            was_spent = None if before is None else is_spent(before)
            if was_spent is not None and was_spent != spent:
                batch.delete(schema.address_key(address, was_spent, outpoint))
            if was_spent != spent:
                batch.put(schema.address_key(address, spent, outpoint), b"")
            batch.put(key, packed.pack_coin(coin))

    def _state(self, key: bytes) -> UTXOState | None:
        raw = self._rows.get(key)
        return None if raw is None else packed.read_coin(raw).state

    def _put_transaction(self, batch: WriteBatch, txid: str, record: TransactionRecord) -> None:
        name = bytes.fromhex(txid)
        if record.height is not None and name in self._waiting:
            # All but its height is there already: a third of what a payment writes was its proof, once more.
            batch.put(b"h" + name, schema.number(record.height))
            batch.delete(b"q" + self._waiting.pop(name))
            return
        batch.put(b"t" + name, packed.pack_transaction(record))
        if record.status == "pending":
            if name not in self._orders:
                place = self._orders[name] = schema.number(self._next_order)
                self._next_order += 1
                batch.put(b"p" + place, name)
        elif name in self._orders:
            batch.delete(b"p" + self._orders.pop(name))

    def close(self) -> None:
        """Lets go of the files; every commit that returned is on the disk already. Again: nothing."""
        if self._closed:
            return
        self._closed = self._has_endings = True  # whatever is asked for now fails
        try:
            self._rows.close()
        except StorageError:
            if self._broken is None:  # else that was told, and the log holds all that was promised
                raise

    # -- reading -------------------------------------------------------------------------------------

    def summary(self) -> Summary | None:
        raw = self._rows.get(schema.SUMMARY)
        return None if raw is None else schema.read_summary(raw)

    def coin(self, outpoint: Outpoint) -> Coin | None:
        raw = self._rows.get(schema.coin_key(outpoint))
        return None if raw is None else packed.read_coin(raw)

    def transaction(self, txid: str) -> TransactionRecord | None:
        raw = self._rows.get(schema.named(b"t", txid))
        if raw is None:
            return None
        record = packed.read_transaction(raw)
        if record.status == "final" and record.height is None:
            height = self._rows.get(schema.named(b"h", txid))
            if height is not None:
                return msgspec.structs.replace(record, height=schema.number_of(height))
        return record

    def own_votes(self, txid: str) -> OwnVotes | None:
        raw = self._rows.get(schema.named(b"v", txid))
        return None if raw is None else schema.read_own_votes(raw)

    def batch(self, number: int) -> VoteBatch | None:
        raw = self._rows.get(schema.numbered(b"b", number))
        return None if raw is None else schema.read_batch(raw)

    def pending(self) -> Iterator[TransactionRecord]:
        return self._listed(b"p")

    def unconfirmed(self) -> Iterator[TransactionRecord]:
        return self._listed(b"q")

    def _listed(self, prefix: bytes) -> Iterator[TransactionRecord]:
        for _, txid in self._rows.scan(prefix):
            record = self.transaction(txid.hex())
            if record is None:
                raise StorageError(f"the store has lost the transaction {txid.hex()}")
            yield record

    def ending(self, txid: str) -> Ending | None:
        # Asked for each payment, and few stores hold one: to look for it in a dozen files takes longer and longer.
        raw = self._rows.get(schema.named(b"x", txid)) if self._has_endings else None
        return None if raw is None else schema.read_ending(raw)

    def tip(self) -> ChainTip | None:
        raw = self._rows.get(schema.TIP)
        return None if raw is None else schema.read_tip(raw)

    def block(self, height: int) -> DecidedBlock | None:
        record = self._decided(height)
        return None if record is None else DecidedBlock(self._block(record.block), record.commit)

    def _decided(self, height: int) -> schema.DecidedRecord | None:
        raw = self._rows.get(schema.numbered(b"k", height))
        return None if raw is None else schema.read_decided(raw)

    def _block(self, number: int) -> Block:
        raw = self._rows.get(schema.numbered(b"d", number))
        if raw is None:
            raise StorageError(f"the store is damaged: it has lost block number {number}")
        return schema.read_block(raw)

    def sign_state(self) -> SignState | None:
        raw = self._rows.get(schema.SIGN_STATE)
        if raw is None:
            return None
        record = schema.read_signed(raw)
        return msgspec.structs.replace(record.state, blocks=tuple(map(self._block, record.blocks)))

    def finalized(self, since: int, limit: int) -> list[str]:
        return list(islice(self._finals(since), limit))

    def _finals(self, since: int) -> Iterator[str]:
        return self._entries(b"f", since, lambda _, raw: packed.read_finals(raw))

    def transitions(self, after: int, limit: int) -> list[Transition]:
        first = max(after, getattr(self.summary(), "log_start", 0)) + 1
        return list(islice(self._entries(b"l", first, packed.read_transitions), limit))

    def _entries(self, prefix: bytes, first: int, read: Callable[[int, bytes], list[Any]]) -> Iterator[Any]:
        """A list whose entries share rows, from number ``first`` on; ``read`` is given a row and its last number."""
        for key, raw in self._rows.scan(prefix, schema.numbered(prefix, first)):
            last = schema.number_of(key[1:])
            found = read(last, raw)
            if not found or (before := first - (last + 1 - len(found))) < 0:
                raise StorageError(f"the store is damaged: of its list {prefix.decode()} number {first} is not there")
            yield from found[before:]
            first = last + 1

    def evidence(self, limit: int, since: int = 0) -> list[Evidence | BlockEvidence]:
        rows = islice(self._rows.scan(b"e", schema.numbered(b"e", since)), limit)
        return [schema.read_evidence(raw) for _, raw in rows]

    def caught_up(self) -> dict[str, int]:
        return {key[1:].hex(): schema.number_of(raw) for key, raw in self._rows.scan(b"u")}

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]:
        within = schema.address_prefix(address) + (b"" if spent else b"\x00")
        start = None
        if after is not None:
            # Where only the others are asked for, that ``after`` was spent since the last page skips none of them.
            last = self.coin(after) if spent else None
            start = schema.address_key(address, last is not None and is_spent(last.state), after) + b"\x00"
        page: list[tuple[Outpoint, Coin]] = []
        for key, _ in self._rows.scan(within, start):
            if len(page) == limit:
                return page, True
            outpoint = schema.outpoint_of_address_key(key)
            coin = self.coin(outpoint)
            if coin is None:
                raise StorageError(f"the store has lost the coin {outpoint}")
            page.append((outpoint, coin))
        return page, False
