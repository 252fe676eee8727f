"""A Byzantine masternode: signs everything, tells each peer something else, replays, forges, answers just enough."""

from __future__ import annotations

import random
from typing import Any

from tests.cluster import Node
from tests.examples import replace
from timeproto.consensus.effects import Effects, Heard, Input, LinkUp, Tick
from timeproto.model.certificate import FinalityProof, signed_vote
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import Locked, SpentFinalized, to_wire
from timeproto.model.vote import VoteBatch, VoteKind, sign_batch
from timeproto.storage.memory import MemoryStore
from timeproto.wire import messages

MISCHIEF = 120
"""Unasked-for messages of one liar in one run: enough for harm, few enough for an end."""


class Liar(Node):
    """Stands where a :class:`~tests.cluster.Node` does. It knows all ``transactions`` there are, from every wallet."""

    def __init__(
        self, genesis: Genesis, owner: SigningKey, chance: random.Random, transactions: dict[str, Transaction]
    ) -> None:
        self.key, self.signing_key, self.genesis = owner.public_hex, owner, genesis
        self.store = MemoryStore()
        self.alive = True
        self.replies, self.told, self.effects = {}, [], []
        self.signed: list[VoteBatch] = []
        self._random = chance
        self._all = transactions
        self._heard: list[VoteBatch] = []
        self._peers: list[str] = []
        self._left = MISCHIEF

    def step(self, inputs: list[Input], now: int) -> Effects:
        effects = Effects()
        for entry in inputs:
            if isinstance(entry, LinkUp) and entry.key not in self._peers:
                self._peers.append(entry.key)
            if isinstance(entry, Heard):
                effects.send += [(entry.sender, reply) for reply in self._reply(entry.message)]
            if self._left and self._peers and self._random.random() < (0.9 if isinstance(entry, Tick) else 0.3):
                self._left -= 1
                effects.send += self._mischief()
        return effects

    def _reply(self, message: Any) -> list[Any]:
        """Helpful now and then, so that it is not simply a dead one."""
        match message:
            case VoteBatch():
                self._heard.append(message)
            case messages.Votes():
                self._heard += message.batches
            case messages.GetTransactions():
                known = [self._all[txid] for txid in message.txids if txid in self._all and self._random.random() < 0.7]
                return [messages.Transactions(transactions=tuple(known))]
            case messages.GetVotes(voter=str(voter)):
                return [messages.Votes(voter=voter)]
            case messages.GetVotes():
                return [messages.Votes(batches=tuple(self._random.sample(self.signed, min(3, len(self.signed)))))]
            case messages.GetFinalized():
                some = self._some_txids() if self._random.random() < 0.5 else ()
                listed = (*some, f"{self._random.getrandbits(256):064x}") if some else ()
                head = message.since + len(listed)
                return [messages.Finalized(txids=listed, next=head, head=head + self._random.randint(0, 3))]
        return []

    # -- mischief ------------------------------------------------------------------------------------

    def _mischief(self) -> list[tuple[str | None, Any]]:
        trick = self._random.choice(
            [self._sign_everything, self._sign_everything, self._split, self._replay, self._forge, self._fake_proof,
             self._fake_hint, self._show]
        )
        targets = self._random.sample(self._peers, self._random.randint(1, len(self._peers)))
        return [(target, message) for target in targets for message in trick()]

    def _some_txids(self) -> tuple[str, ...]:
        txids = sorted(self._all)
        return tuple(self._random.sample(txids, self._random.randint(1, min(4, len(txids))))) if txids else ()

    def _sign(self, lock: tuple[str, ...], commit: tuple[str, ...]) -> list[Any]:
        if not (lock or commit):
            return []
        batch = sign_batch(
            self.signing_key, self.genesis.hash, self.genesis.masternode_set.hash, self._random.randint(0, 3),
            lock=lock, commit=commit,
        )
        self.signed.append(batch)
        return [batch]

    def _sign_everything(self) -> list[Any]:
        return self._sign(tuple(self._all), tuple(self._all))

    def _split(self) -> list[Any]:
        """Something else at every call, so something else to every target."""
        return self._sign(self._some_txids(), self._some_txids())

    def _replay(self) -> list[Any]:
        heard = [*self._heard[-50:], *self.signed]
        return [messages.Votes(batches=tuple(self._random.sample(heard, min(3, len(heard)))))]

    def _forge(self) -> list[Any]:
        """Another's name, another's words, a signature that is none; and a whole one that promises nothing real."""
        (batch,) = self._sign((f"{self._random.getrandbits(256):064x}",), self._some_txids())
        victim = self._random.choice(self._peers)
        heard = self._random.choice(self._heard) if self._heard else batch
        return [
            batch,
            replace(batch, voter=victim),
            replace(batch, signature="0" * 128),
            replace(heard, lock=tuple(sorted(set(heard.lock) | set(self._all)))),
            replace(heard, commit=tuple(sorted(set(heard.commit) | set(self._all)))),
        ]

    def _fake_proof(self) -> list[Any]:
        """Too few votes, one voter twice, lock votes for commits, a whole proof for another transaction."""
        txids = self._some_txids()
        if not txids:
            return []
        txid = txids[0]
        (own,) = self._sign((txid,), (txid,))
        mine, other = (signed_vote(own, own.index(each, txid)) for each in (VoteKind.COMMIT, VoteKind.LOCK))
        votes = [mine]
        for batch in {batch.voter: batch for batch in self._heard}.values():
            index = next((at for at, (_, each) in enumerate(batch.votes()) if each == txid), 0)
            votes.append(signed_vote(batch, index))
        quorum, set_ = self.genesis.masternode_set.quorum, self.genesis.masternode_set.hash
        fakes = [votes[: quorum - 1], [mine] * quorum, [other, *votes[1:]], votes]
        return [messages.FinalityProofs(proofs=tuple(FinalityProof(txid, set_, tuple(each)) for each in fakes if each))]

    def _fake_hint(self) -> list[Any]:
        outpoint, output = self._random.choice(self.genesis.coins())
        txid = (self._some_txids() or ("ab" * 32,))[0]
        state = self._random.choice([Locked(txid, 1), SpentFinalized(txid, 1, 99)])
        change = messages.StateChange(outpoint, None, to_wire(state), 1, self.key)
        cursor = messages.Cursor(self.key, 1)
        return [messages.UTXOStateNotification(notification=change, cursor=cursor, output=output)]

    def _show(self) -> list[Any]:
        """Real transactions, and one with a changed output under the same name."""
        known = [self._all[txid] for txid in self._some_txids()]
        spoilt = [replace(tx, outputs=tx.outputs[::-1], timestamp=tx.timestamp + 1) for tx in known[:1]]
        return [messages.Transactions(transactions=(*known, *spoilt))]
