"""What the wallets of a run do, honest and hostile. Each trick is a method that signs and submits something."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec

from timeproto.consensus.effects import Cancel
from timeproto.model.address import address_of
from timeproto.model.transaction import Outpoint, Transaction, TxOutput, sighash
from timeproto.sim.events import MILLISECOND, SECOND
from timeproto.sim.masternode import Masternode
from timeproto.sim.purses import FEE, Order, Purse, Purses
from timeproto.sim.setting import PARAMS, address
from timeproto.sim.signatures import Signer
from timeproto.sim.trace import short
from timeproto.wire import messages


class Wallets(Purses):
    """:meth:`act` does one trick, by chance."""

    def act(self, *, hostile: bool) -> None:
        """One thing, by chance."""
        tricks: list[tuple[int, Callable[[], None]]] = [
            (6, self.plain), (3, self.chain), (2, self.join), (2, self.minted),
        ]
        if hostile:
            tricks += [
                (4, self.double_spend), (2, self.overlap), (2, self.half_and_half), (1, self.orphan),
                (1, self.orphan_first), (1, self.invalid), (1, self.repeat), (3, self.cancel), (1, self.two_signatures),
                (1, self.flood), (1, self.bad_cancel),
            ]
        trick, = self._chance.choices([trick for _, trick in tricks], [weight for weight, _ in tricks])
        trick()

    def take(self, most: int = 1) -> list[Purse]:
        """Up to ``most`` coins that no payment spends yet; some are outputs of payments that are not final yet."""
        taken = []
        for _ in range(most):
            pile = self._children if self._children and self._chance.random() < 0.3 else self._coins
            if pile:
                taken.append(pile.pop(self._chance.randrange(len(pile))))
        return taken

    def _send_payment(self, coins: list[Purse]) -> Transaction | None:
        if not coins:
            return None
        tx = self.pay(coins, share=self._chance.choice((0.2, 0.5, 0.9)))
        self._tally.count("payments")
        self.submit(tx, self.some_node())
        self._children += self.outputs_of(tx)
        return tx

    def plain(self) -> None:
        self._send_payment(self.take())

    def join(self) -> None:
        """Coins of different owners in one transaction."""
        self._send_payment(self.take(self._chance.randint(2, 4)))

    def chain(self) -> None:
        """A payment, at once one of its output, one of that, each at a masternode of its own choice."""
        coins = self.take()
        for _ in range(self._chance.randint(2, 4)):
            tx = self._send_payment(coins)
            if tx is None:
                return
            coins = [self.outputs_of(tx)[0]]
            self._children.remove(coins[0])

    def double_spend(self) -> None:
        """Two or three transactions for one coin, to masternodes of their own choice, at one instant."""
        coins = self.take()
        if coins:
            rivals = [self._send_rival(coins, [self.some_node()]) for _ in range(self._chance.randint(2, 3))]
            if self._chance.random() < 0.3:
                delay = self._chance.randint(0, 2_000) * MILLISECOND
                self._events.after(delay, self._send_cancel, rivals[0], coins[0].owner)

    def half_and_half(self) -> None:
        """One rival to one half of the masternodes, the other to the other half."""
        coins = self.take(self._chance.randint(1, 2))
        nodes = list(self._town.nodes)
        self._chance.shuffle(nodes)
        half = len(nodes) // 2 + self._chance.randint(0, len(nodes) % 2)
        if coins:
            for side in (nodes[:half], nodes[half:]):
                self._send_rival(coins, side)

    def overlap(self) -> None:
        """Rivals that share one of their coins with the next: {a, b}, {b, c}, {c, d}."""
        coins = self.take(self._chance.randint(3, 4))
        for pair in itertools.pairwise(coins):
            self._send_rival(list(pair), [self.some_node(), self.some_node()])

    def _send_rival(self, coins: list[Purse], nodes: list[Masternode]) -> Transaction:
        tx = self.pay(coins, share=self._chance.random())
        self._tally.count("rivals")
        for node in nodes:
            self.submit(tx, node)
        if self._chance.random() < 0.2:  # a payment of a coin that may never be
            self.submit(self.pay(self.outputs_of(tx)[:1]), self.some_node())
        return tx

    def cancel(self) -> None:
        """A payment, and a while later its owner's cancel, here or elsewhere."""
        tx = self._send_payment(self.take(self._chance.randint(1, 2)))
        if tx is not None:
            for purse in self.outputs_of(tx):
                self._children.remove(purse)
            delay = int(self._chance.random() ** 3 * 3 * SECOND)
            for _ in range(self._chance.randint(1, 3)):
                self._events.after(delay, self._send_cancel, tx, self._owner_of(tx))
            self._tally.count("cancels")

    def bad_cancel(self) -> None:
        """Of what is somebody else's, or in its owner's name."""
        if self._sent:
            tx = self._chance.choice(self._sent)
            owned = {bytes(key) for key in tx.keys}
            other = self._chance.choice([key for key in self.keys if key.public_bytes not in owned])
            self._send_cancel(tx, other, name=self._chance.choice((other.public_hex, tx.keys[0].hex())))

    def _owner_of(self, tx: Transaction) -> Signer:
        return self._owners[address_of(tx.keys[0], PARAMS)]

    def _send_cancel(self, tx: Transaction, key: Signer, name: str | None = None) -> None:
        node = self.some_node()
        if node.alive and not node.paused:
            self.cancel_at(tx, node, key, name)

    def cancel_at(
        self, tx: Transaction, node: Masternode, key: Signer | None = None, name: str | None = None
    ) -> None:
        """An owner's cancel, or that of anybody who has ``key`` and goes by the ``name`` of another."""
        key = key or self._owner_of(tx)
        unsigned = messages.TransactionCancel(txid=tx.txid, key=name or key.public_hex, signature="0" * 128)
        signature = key.sign(unsigned.message(self._genesis.hash)).hex()
        if key.public_bytes in tx.keys and tx.txid in self._book.entries:
            self._book.cancel(tx.txid, self._events.now)
        ticket = len(self.orders) + 1
        self.orders[ticket] = Order(tx, node, node.life, cancel=True)
        self._trace.note(f"wallet → {node.number}  cancel of {short(tx.txid)}")
        node.post(Cancel(msgspec.structs.replace(unsigned, signature=signature), ticket))

    def two_signatures(self) -> None:
        """One transaction under two valid signatures, to one half of the masternodes each."""
        coins = self.take()
        if coins:
            tx = self.pay(coins)
            nonce = self._chance.randbytes(64)
            signature = coins[0].owner.sign_otherwise(sighash(tx.canonical, self._genesis.hash), nonce)
            other = msgspec.structs.replace(tx, signature=tuple(signature))
            self._tally.count("payments")
            for node in self._town.nodes:
                self.submit(self._chance.choice((tx, other)), node)

    def flood(self) -> None:
        """A dozen orphans to one masternode, for coins of one another that never come."""
        node = self.some_node()
        owner = self._chance.choice(self.keys)
        for _ in range(12):
            coin = Purse(Outpoint(f"{self._chance.getrandbits(256):064x}", 0), 10**9, owner)
            self._tally.count("orphans")
            self.submit(self.pay([coin], valid=False), node, tries=3)

    def minted(self) -> None:
        """What a masternode earned."""
        if self._book.minted:
            outpoint = self._book.minted.pop(self._chance.randrange(len(self._book.minted)))
            self._tally.count("coinbases spent")
            self._send_payment([self._purse(outpoint)])

    def orphan(self) -> None:
        """A payment of a coin that never was."""
        owner = self._chance.choice(self.keys)
        coin = Purse(Outpoint(f"{self._chance.getrandbits(256):064x}", 0), 10**9, owner)
        self._tally.count("orphans")
        self.submit(self.pay([coin], valid=False), self.some_node())

    def orphan_first(self) -> None:
        """The child is sent before its parent."""
        coins = self.take()
        if coins:
            parent = self.pay(coins)
            self._tally.count("payments", 2)
            purses = self.outputs_of(parent)
            self.submit(self.pay(purses[:1]), self.some_node())
            self._children += purses[1:]
            delay = self._chance.randint(1, 3_000) * MILLISECOND
            self._events.after(delay, lambda: self.submit(parent, self.some_node()))

    def invalid(self) -> None:
        """Something that no masternode may vote for."""
        if not self._coins:
            return
        coin = self._chance.choice(self._coins)
        other = self._chance.choice([key for key in self.keys if key is not coin.owner])
        mine, enough = address(coin.owner), coin.amount - FEE
        bad = [
            self.sign([Purse(coin.outpoint, coin.amount, other)], [TxOutput(enough, mine)]),
            self.sign([coin], [TxOutput(enough + 1, mine)]),
            self.sign([coin], [TxOutput(enough + self._chance.randint(1, 10**6), mine)]),
            self.sign([coin], [TxOutput(enough - 1, mine)]),
            self.sign([coin], [TxOutput(enough - self._chance.randint(1, 10**6), mine)]),
            self.sign([coin], [TxOutput(1, mine)], fee=coin.amount - 1),
            self.sign([coin], [TxOutput(coin.amount, mine)], fee=0),
            self.sign([coin, coin], [TxOutput(2 * enough + FEE, mine)]),
            self.sign([Purse(Outpoint(coin.outpoint.txid, 2**31), coin.amount, coin.owner)], [TxOutput(enough, mine)]),
        ]
        whole = self.sign([coin], [TxOutput(enough, mine)])
        bad.append(msgspec.structs.replace(whole, txid=f"{self._chance.getrandbits(256):064x}"))
        bad.append(msgspec.structs.replace(whole, signature=tuple(reversed(whole.signature))))
        tx = self._chance.choice(bad)
        self._tally.count("invalid")
        if tx.txid == tx.computed_txid and tx is not bad[-1]:
            self._book.add(tx, self._events.now, valid=False)
        self.submit(tx, self.some_node())

    def repeat(self) -> None:
        """Something once more, to somebody else."""
        if self._sent:
            self._tally.count("repeats")
            self.submit(self._chance.choice(self._sent), self.some_node())
