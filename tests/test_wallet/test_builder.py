"""Transactions as the wallet builds them: the network's own checks accept every one."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, CAROL, DEVNET, GENESIS, address, key, replace
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.address import MAX_LENGTH, encode_payload
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import Coin
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import UNSPENT
from timeproto.model.validation import check_context, check_stateless
from timeproto.params import COIN, NETWORKS
from timeproto.wallet import builder, hd
from timeproto.wallet.coins import CoinBook, Selection, WalletCoin
from timeproto.wire import codec, messages

DUST = DEVNET.dust
OWNERS = tuple(key(number) for number in range(10, 16))
KEYS = {address(owner): owner for owner in OWNERS}
TIMESTAMP = 1_700_000_123


def coin(number: int, amount: int, owner: SigningKey) -> WalletCoin:
    return WalletCoin(Outpoint(f"{number:064x}", number % 4), amount, address(owner))


def fee_for(inputs: int, outputs: int) -> int:
    return builder.fee_for(inputs, outputs, DEVNET)


def build(selection: Selection, *outputs: TxOutput, change: SigningKey | None = CAROL) -> Transaction:
    return builder.build(
        selection,
        outputs,
        change_address=None if change is None else address(change),
        keys=KEYS,
        genesis=GENESIS,
        timestamp=TIMESTAMP,
    )


def accept(tx: Transaction, selection: Selection) -> None:
    """The two gates of every masternode."""
    check_stateless(tx, DEVNET, GENESIS.hash)
    coins = [Coin(TxOutput(each.amount, each.address), UNSPENT) for each in selection.coins]
    check_context(tx, coins, DEVNET)


class Accepted(SynchronousTestCase):
    @settings(max_examples=60)
    @given(
        st.lists(st.tuples(st.integers(DUST, 10**4 * COIN), st.sampled_from(OWNERS)), min_size=1, max_size=20),
        st.data(),
    )
    def test_whatever_is_picked_is_accepted(
        self, given_coins: list[tuple[int, SigningKey]], data: st.DataObject
    ) -> None:
        """Any coins of any owners, any amount they can pay: the transaction passes both gates, to the unit."""
        total = sum(amount for amount, _ in given_coins)
        most = total - fee_for(len(given_coins), 2)
        if most < DUST:
            return
        target = data.draw(st.integers(DUST, most))
        book = CoinBook()
        for number, (amount, owner) in enumerate(given_coins):
            book.add(coin(number, amount, owner))
        selection = book.select_and_reserve(target, fee_for, DUST)
        tx = build(selection, TxOutput(target, address(BOB)))
        accept(tx, selection)
        self.assertEqual(tx.fee, selection.fee)
        self.assertEqual(tx.outputs[0], TxOutput(target, address(BOB)))
        changes = [TxOutput(selection.change, address(CAROL))] if selection.change else []
        self.assertEqual(list(tx.outputs[1:]), changes)

    @settings(max_examples=40)
    @given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["mainnet", "testnet", "devnet"]))
    def test_the_fee_is_enough_for_the_longest_addresses(self, inputs: int, outputs: int, network: str) -> None:
        """Counted from canonical sizes: never too little, and no more than one started kilobyte too much."""
        params = NETWORKS[network]
        longest = max((encode_payload(bytes([first]) * 20, params) for first in range(256)), key=len)
        owner = OWNERS[0]
        paid = [TxOutput(DUST, longest)] * outputs
        fee = builder.fee_for(inputs, outputs, params)
        each = DUST * outputs + fee
        coins = tuple(coin(number, each, owner) for number in range(inputs))
        selection = Selection(coins, fee, 0)
        tx = build(selection, *paid, change=None)
        self.assertEqual(len(tx.canonical), builder.canonical_size(inputs, outputs))
        self.assertEqual(fee, params.minimum_fee(len(tx.canonical)))
        self.assertEqual(builder.transaction_size(inputs, outputs), len(tx.canonical) + 64 * inputs)

    def test_no_address_is_longer_than_counted(self) -> None:
        """The size of an output is that of the longest address there can be, on every network."""
        payloads = [bytes(20), b"\xff" * 20, *(bytes([first]) + b"\xff" * 19 for first in range(256))]
        for params in NETWORKS.values():
            longest = max(len(encode_payload(payload, params)) for payload in payloads)
            self.assertEqual(longest, 5 + 33)
            self.assertLessEqual(longest, MAX_LENGTH)

    def test_several_outputs(self) -> None:
        """One payment to many, with change last."""
        selection = Selection((coin(0, 10 * COIN, OWNERS[0]),), fee_for(1, 4), 10 * COIN - 6 * COIN - fee_for(1, 4))
        paid = [TxOutput(number * COIN, address(BOB)) for number in (1, 2, 3)]
        tx = build(selection, *paid)
        accept(tx, selection)
        self.assertEqual([output.amount for output in tx.outputs], [COIN, 2 * COIN, 3 * COIN, selection.change])


class Signatures(SynchronousTestCase):
    def selection(self, *owners: SigningKey) -> Selection:
        fee = fee_for(len(owners), 1)
        coins = tuple(coin(number, COIN, owner) for number, owner in enumerate(owners))
        return Selection(coins, fee, 0)

    def build(self, *owners: SigningKey) -> Transaction:
        selection = self.selection(*owners)
        return build(selection, TxOutput(COIN * len(owners) - selection.fee, address(BOB)), change=None)

    def test_one_for_each_distinct_key_in_order(self) -> None:
        """Owners a, b, a, c, b: three signatures, a's, b's and c's."""
        a, b, c = OWNERS[2], OWNERS[0], OWNERS[1]
        tx = self.build(a, b, a, c, b)
        self.assertEqual(tx.keys, (a.public_bytes, b.public_bytes, c.public_bytes))
        self.assertEqual(len(tx.signature), 3 * 64)
        accept(tx, self.selection(a, b, a, c, b))

    def test_one_owner_signs_once(self) -> None:
        """However many coins: one signature, one verification."""
        tx = self.build(*[OWNERS[0]] * 50)
        self.assertEqual(len(tx.signature), 64)
        accept(tx, self.selection(*[OWNERS[0]] * 50))

    def test_every_field_is_signed(self) -> None:
        """Nothing can be changed afterwards, not even with the txid put right; nor used on another network."""
        tx = self.build(OWNERS[0], OWNERS[1])
        first = tx.outputs[0]
        for changed in (
            replace(tx, outputs=(replace(first, address=address(CAROL)),)),
            replace(tx, outputs=(replace(first, amount=first.amount - 1),)),
            replace(tx, timestamp=TIMESTAMP + 1),
            replace(tx, fee=tx.fee + 1),
            replace(tx, inputs=tx.inputs[::-1]),
        ):
            forged = replace(changed, txid=changed.computed_txid)
            error = self.assertRaises(Refusal, check_stateless, forged, DEVNET, GENESIS.hash)
            self.assertEqual(error.code, ErrorCode.BAD_SIGNATURE)
        other = replace(GENESIS, timestamp=1).hash
        self.assertEqual(
            self.assertRaises(Refusal, check_stateless, tx, DEVNET, other).code, ErrorCode.BAD_SIGNATURE
        )

    def test_the_same_arguments_give_the_same_bytes(self) -> None:
        """A payment that is built again is the same payment, to the last bit."""
        once, again = (msgspec.json.encode(self.build(OWNERS[0], OWNERS[1])) for _ in range(2))
        self.assertEqual(once, again)


class Refused(SynchronousTestCase):
    def test_change_without_an_address(self) -> None:
        """Money that would go nowhere is no transaction."""
        selection = Selection((coin(0, COIN, OWNERS[0]),), fee_for(1, 2), COIN // 2)
        output = TxOutput(COIN - COIN // 2 - selection.fee, address(BOB))
        self.assertRaises(ValueError, build, selection, output, change=None)

    def test_a_coin_without_its_key(self) -> None:
        """Nothing is built with a signature missing."""
        selection = Selection((coin(0, COIN, ALICE),), fee_for(1, 1), 0)
        self.assertRaises(KeyError, build, selection, TxOutput(COIN - selection.fee, address(BOB)))


class Sizes(SynchronousTestCase):
    def test_the_largest_payment_fits_a_wallets_frame(self) -> None:
        """As many coins as the book ever picks, each with a key of its own and numbers at their longest, as JSON."""
        tree, book = hd.Tree(bytes(64)), CoinBook()
        keys: dict[str, SigningKey] = {}
        for number in range(limits.INPUTS_WALLET):
            owner = tree.key(0, 0, number)
            keys[address(owner)] = owner
            book.add(WalletCoin(Outpoint("f" * 60 + f"{number:04x}", 2**32 - 1), COIN, address(owner)))
        target = limits.INPUTS_WALLET * COIN - fee_for(limits.INPUTS_WALLET, 2) - DUST
        selection = book.select_and_reserve(target, fee_for, DUST)
        self.assertEqual((len(selection.coins), selection.change), (limits.INPUTS_WALLET, DUST))
        tx = builder.build(
            selection,
            [TxOutput(target, address(BOB))],
            change_address=address(CAROL),
            keys=keys,
            genesis=GENESIS,
            timestamp=TIMESTAMP,
        )
        accept(tx, selection)
        self.assertEqual(len(tx.signatures), limits.INPUTS_WALLET)
        longest = replace(
            tx,
            inputs=tuple(replace(entry, script_sig=(255,) * 32) for entry in tx.inputs),
            signature=(255,) * len(tx.signature),
            fee=2**64 - 1,
            outputs=tuple(replace(output, amount=2**64 - 1) for output in tx.outputs),
        )
        message = messages.TransactionBroadcast(tx=longest, id=2**53 - 1)
        self.assertLess(len(codec.encode(message)), limits.FRAME_WALLET)

    def test_the_largest_transaction_of_one_owner(self) -> None:
        """A thousand coins of one address fit the size of a transaction and pass the gates."""
        coins = tuple(coin(number, COIN, OWNERS[0]) for number in range(limits.INPUTS))
        selection = Selection(coins, fee_for(limits.INPUTS, 1), 0)
        tx = build(selection, TxOutput(limits.INPUTS * COIN - selection.fee, address(BOB)), change=None)
        accept(tx, selection)
        self.assertLess(len(tx.canonical) + len(tx.signature), limits.TRANSACTION_SIZE)
