"""One replica among masternodes that the test plays: for tests that say exactly what arrives, and in which order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.cluster import Node, address, key, make_genesis, pay
from timeproto.consensus.effects import Effects, Heard, Input, LinkUp, Submit, Tick
from timeproto.model.certificate import FinalityProof, signed_vote
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import Store
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import UTXOState
from timeproto.model.vote import VoteBatch, VoteKind, sign_batch
from timeproto.params import COIN
from timeproto.storage.memory import MemoryStore
from timeproto.wire import messages

FEE = 10_000


class Alone:
    """Masternode 0 of ``n`` is real; the others are keys in the hands of the test."""

    def __init__(
        self, n: int = 4, *, wallets: int = 2, coins: int = 4, store: Store | None = None, voting: bool = True
    ) -> None:
        self.wallets = [key(1_000 + number) for number in range(wallets)]
        self.genesis = make_genesis(n, self.wallets, coins)
        self.keys = [key(number + 1) for number in range(n)]
        self.quorum = self.genesis.masternode_set.quorum
        self.store: Store = MemoryStore() if store is None else store
        self.now = 1_000
        self._tickets = 0
        self.start(voting=voting)

    def start(self, *, voting: bool = True) -> None:
        """A new life on the same store."""
        self.node = Node(self.genesis, self.keys[0], self.store)
        self.replica = self.node.replica
        if voting:
            for peer in range(1, len(self.keys)):
                self.vouch(peer)

    def vouch(self, peer: int, **more: Any) -> Effects:
        """``peer`` is there, holds nothing of the replica's votes, and nothing is final or decided with it."""
        self.act(LinkUp(self.keys[peer].public_hex))
        self.hear(messages.Blocks(blocks=(), head=0), peer)
        self.hear(messages.Finalized(txids=(), next=0, head=0), peer)
        return self.hear(messages.Votes(voter=self.node.key, **more), peer)

    # -- what arrives --------------------------------------------------------------------------------

    def act(self, *inputs: Input) -> Effects:
        self.now += 1
        return self.node.step(list(inputs), self.now)

    def hear(self, message: Any, peer: int = 1) -> Effects:
        return self.act(Heard(message, self.keys[peer].public_hex))

    def show(self, *transactions: Transaction, peer: int = 1) -> Effects:
        """A masternode relays transactions."""
        return self.hear(messages.Transactions(transactions=transactions), peer)

    def submit(self, tx: Transaction) -> int:
        """A wallet hands in a transaction; ``answer`` tells what it was told."""
        self._tickets += 1
        self.act(Submit(tx, self._tickets))
        return self._tickets

    def answer(self, ticket: int) -> str | None:
        """``accepted``, the code of a refusal, or None while there is no answer."""
        answer = self.node.replies.get(ticket)
        if isinstance(answer, messages.TransactionAccepted):
            return "accepted"
        return None if answer is None else str(answer.code)

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.act(Tick())

    def batch(self, voter: int, lock: Iterable[Transaction] = (), commit: Iterable[Transaction] = ()) -> VoteBatch:
        return sign_batch(
            self.keys[voter],
            self.genesis.hash,
            self.genesis.masternode_set.hash,
            0,
            lock=[tx.txid for tx in lock],
            commit=[tx.txid for tx in commit],
        )

    def vote(self, voter: int, lock: Iterable[Transaction] = (), commit: Iterable[Transaction] = ()) -> Effects:
        """``voter`` sends its own votes."""
        return self.hear(self.batch(voter, lock, commit), voter)

    def finish(self, *transactions: Transaction) -> None:
        """The others lock and commit: with this replica's votes, or without them, the transactions are final."""
        for voter in range(1, len(self.keys)):
            self.vote(voter, lock=transactions, commit=transactions)

    def proof(self, tx: Transaction, voters: Iterable[int] | None = None) -> FinalityProof:
        """A proof of finality by the commit votes of ``voters``, the last q by default."""
        chosen = list(voters) if voters is not None else list(range(len(self.keys)))[-self.quorum :]
        votes = [signed_vote(batch, batch.index(VoteKind.COMMIT, tx.txid))
                 for batch in (self.batch(voter, commit=[tx]) for voter in chosen)]
        return FinalityProof(tx.txid, self.genesis.masternode_set.hash, tuple(votes))

    # -- payments ------------------------------------------------------------------------------------

    def coins(self, wallet: int = 0) -> list[tuple[Outpoint, int, SigningKey]]:
        """The genesis coins of a wallet, ready for :meth:`pay`."""
        owner = self.wallets[wallet]
        return [(outpoint, output.amount, owner) for outpoint, output in self.genesis.coins()
                if output.address == address(owner)]

    def pay(
        self, coins: Iterable[tuple[Outpoint, int, SigningKey]], to: int = 1, amount: int = COIN, **more: Any
    ) -> Transaction:
        return pay(self.genesis, coins, [(address(self.wallets[to]), amount)], **more)

    def change_of(self, tx: Transaction, owner: int = 0) -> tuple[Outpoint, int, SigningKey]:
        """The last output of a payment, as a coin to spend."""
        return tx.output_outpoint(len(tx.outputs) - 1), tx.outputs[-1].amount, self.wallets[owner]

    # -- looking -------------------------------------------------------------------------------------

    def state(self, outpoint: Outpoint) -> UTXOState | None:
        """As committed."""
        coin = self.store.coin(outpoint)
        return None if coin is None else coin.state

    def is_final(self, tx: Transaction) -> bool:
        record = self.store.transaction(tx.txid)
        return record is not None and record.status == "final"

    def cast(self) -> list[VoteBatch]:
        """Every batch the replica signed in this life, in order."""
        sent = [message for effects in self.node.effects for _, message in effects.send]
        return [message for message in sent if isinstance(message, VoteBatch)]

    def voted(self, tx: Transaction) -> tuple[bool, bool]:
        """Whether the replica cast its lock vote and its commit vote for ``tx`` in this life."""
        cast = self.cast()
        return any(tx.txid in batch.lock for batch in cast), any(tx.txid in batch.commit for batch in cast)
