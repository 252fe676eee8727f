"""The coins of all wallets of a run: what is signed with them, where it is sent, and what came back."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from typing import Any, Protocol

import attrs

from timeproto.errors import Refusal
from timeproto.model.transaction import (
    FINAL_SEQUENCE,
    Outpoint,
    Transaction,
    TxInput,
    TxOutput,
    canonical_bytes,
    sighash,
    txid_of,
)
from timeproto.sim.events import MILLISECOND, SECOND
from timeproto.sim.masternode import Masternode
from timeproto.sim.scene import Scene
from timeproto.sim.setting import PARAMS, address
from timeproto.sim.signatures import Signer
from timeproto.sim.trace import short
from timeproto.wire import messages

FEE = 10_000


@attrs.frozen
class Purse:
    """A coin that a wallet may spend: made by a transaction that is final, on its way, or never to be."""

    outpoint: Outpoint
    amount: int
    owner: Signer


@attrs.define
class Order:
    """A transaction, or its cancel, handed to a masternode in that ``life`` of its. ``answer`` is None until it says
    something."""

    tx: Transaction
    node: Masternode
    life: int
    cancel: bool = False
    answer: Any = None
    tries: int = 0


class Town(Protocol):
    """Where the masternodes are."""

    nodes: list[Masternode]

    @property
    def honest(self) -> list[Masternode]: ...


class Purses:
    """Signs, sends, and remembers every order with its answer. What is signed is for :mod:`timeproto.sim.wallets`."""

    def __init__(
        self, keys: list[Signer], miners: list[Signer], town: Town, scene: Scene, chance: random.Random
    ) -> None:
        """``miners``: the masternodes' keys, whose coinbases are coins like others."""
        self.keys = keys
        self.orders: dict[int, Order] = {}
        self._retries = 0
        self._genesis, self._book = scene.genesis, scene.book
        self._events, self._trace, self._tally = scene.events, scene.trace, scene.tally
        self._town = town
        self._chance = chance
        self._owners = {address(key): key for key in (*keys, *miners)}
        self._coins = [self._purse(outpoint) for outpoint, _ in self._genesis.coins()]
        chance.shuffle(self._coins)
        self._children: list[Purse] = []
        self._sent: list[Transaction] = []

    def _purse(self, outpoint: Outpoint) -> Purse:
        output = self._book.outputs[outpoint]
        return Purse(outpoint, output.amount, self._owners[output.address])

    # -- signing -------------------------------------------------------------------------------------

    def pay(
        self, coins: Iterable[Purse], *, share: float = 0.5, valid: bool = True, fresh: bool = False
    ) -> Transaction:
        """``coins`` to another wallet and the rest back. ``fresh``: whoever wanted these coins before has ended."""
        spent = list(coins)
        total = sum(coin.amount for coin in spent) - FEE
        payee = self._chance.choice(self.keys)
        amount = max(PARAMS.dust, int(total * share))
        outputs = [(payee, amount)]
        if total - amount >= PARAMS.dust:
            outputs.append((spent[0].owner, total - amount))
        tx = self.sign(spent, [TxOutput(value, address(owner)) for owner, value in outputs])
        return self._book.add(tx, self._events.now, valid=valid, fresh=fresh)

    def sign(self, coins: list[Purse], outputs: list[TxOutput], *, fee: int = FEE) -> Transaction:
        """Any coins to any outputs, well signed, valid or not."""
        inputs = tuple(TxInput(coin.outpoint, tuple(coin.owner.public_bytes), FINAL_SEQUENCE) for coin in coins)
        stamp = self._events.now // SECOND + self._chance.getrandbits(20)
        canonical = canonical_bytes(inputs, tuple(outputs), stamp, fee)
        digest = sighash(canonical, self._genesis.hash)
        distinct = {coin.owner.public_hex: coin.owner for coin in coins}
        signature = b"".join(owner.sign(digest) for owner in distinct.values())
        return Transaction(txid_of(canonical), inputs, tuple(outputs), stamp, tuple(signature), fee)

    def next_payment(self) -> Transaction:
        """A payment of a coin that nothing spends yet; :class:`IndexError` when all are spent."""
        return self.pay([self._coins.pop()])

    def outputs_of(self, tx: Transaction) -> list[Purse]:
        return [self._purse(tx.output_outpoint(vout)) for vout in range(len(tx.outputs))]

    # -- sending -------------------------------------------------------------------------------------

    def submit(self, tx: Transaction, node: Masternode, *, tries: int = 0) -> None:
        """Hands it over; nobody is there to hear of it if the masternode is down."""
        self._sent.append(tx)
        if not node.alive or node.paused:
            self._again(tx, tries)
            return
        ticket = len(self.orders) + 1
        self.orders[ticket] = Order(tx, node, node.life, tries=tries)
        self._trace.note(f"wallet → {node.number}  {short(tx.txid)} spends {' '.join(map(_coin, tx.outpoints))}")
        node.submit(tx, ticket)

    def _again(self, tx: Transaction, tries: int) -> None:
        """A wallet whose masternode is gone asks another, a few times."""
        if tries < 3:
            self._retries += 1
            self._events.after(self._chance.randint(100, 1_500) * MILLISECOND, self._try_again, tx, tries + 1)

    def _try_again(self, tx: Transaction, tries: int) -> None:
        self._retries -= 1
        self.submit(tx, self.some_node(), tries=tries)

    def answered(self, ticket: Any, answer: Any) -> None:
        order = self.orders[ticket]
        order.answer = answer
        said = answer.code if isinstance(answer, Refusal) else "accepted"
        what = "cancel of " if order.cancel else ""
        self._trace.note(f"{order.node.number} → wallet  {what}{short(order.tx.txid)}: {said}")
        if isinstance(answer, Refusal):
            self._tally.count(f"refused {answer.code}")
            if answer.code in ("not_voting", "busy", "not_synced") and not order.cancel:
                self._again(order.tx, order.tries)

    def some_node(self) -> Masternode:
        return self._chance.choice(self._town.nodes)

    def unanswered(self) -> list[str]:
        """Whom an honest masternode owes a word that has been up since it was asked, and who will ask again.

        Who waits for a parent is left out: the answer comes after a while, which nobody needs to wait for.
        """
        honest = {node.number for node in self._town.honest}
        waiting = [
            short(order.tx.txid)
            for order in self.orders.values()
            if order.answer is None and order.node.number in honest and order.node.life == order.life
            and all(order.node.store.coin(outpoint) is not None for outpoint in order.tx.outpoints)
        ]
        return waiting + ["a wallet that asks again"] * self._retries

    @property
    def accepted(self) -> list[Transaction]:
        """What an honest masternode has accepted."""
        honest = {node.number for node in self._town.honest}
        found = {
            order.tx.txid: order.tx
            for order in self.orders.values()
            if isinstance(order.answer, messages.TransactionAccepted) and order.node.number in honest
        }
        return list(found.values())

    def respend(self, freed: Iterable[Outpoint], nodes: list[Masternode]) -> int:
        """A new payment of each coin, at a masternode that is up; returns how many."""
        count = 0
        for outpoint in freed:
            tx = self.pay([self._purse(outpoint)], fresh=True)
            self.submit(tx, self._chance.choice(nodes))
            count += 1
        return count

    def told_ended(self, node: Masternode, txid: str, endings: Collection[str]) -> None:
        """A masternode tells a transaction's owner that a block ended it: the owner may pay with its coins again, at
        once, and may try the dead one again somewhere. ``endings``: all that have ended."""
        if self._chance.random() < 0.1:
            dead = self._book.entries[txid].tx
            self._events.after(self._chance.randint(0, 2_000) * MILLISECOND, self.submit, dead, node)
        for outpoint in self._book.entries[txid].tx.outpoints:
            if self._chance.random() < 0.8 and all(each in endings for each in self._book.spenders[outpoint]):
                tx = self.pay([self._purse(outpoint)])
                self._tally.saw("freed coin spent at once")
                self._events.after(self._chance.randint(0, 50) * MILLISECOND, self.submit, tx, node)


def _coin(outpoint: Outpoint) -> str:
    return f"{short(outpoint.txid)}:{outpoint.vout}"
