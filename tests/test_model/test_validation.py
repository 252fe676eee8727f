"""The one gate: what makes a transaction invalid, by itself and against the coins it spends (protocol §2)."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import DEVNET, address, key, make_genesis, pay, sign
from tests.examples import replace
from tests.test_consensus.alone import Alone
from timeproto import limits
from timeproto.errors import Refusal
from timeproto.model import validation
from timeproto.model.address import address_of
from timeproto.model.ledger import Coin
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
from timeproto.model.utxo_state import UNSPENT
from timeproto.params import COIN, NETWORKS

ALICE, BOB = key(1_000), key(1_001)
GENESIS = make_genesis(4, [ALICE, BOB], coins=3)
ALICES = [(outpoint, output.amount, ALICE) for outpoint, output in GENESIS.coins()[:3]]
BOBS = [(outpoint, output.amount, BOB) for outpoint, output in GENESIS.coins()[3:]]
ORDER = 2**252 + 27742317777372353535851937790883648493
"""The order of Ed25519's base point: S and S + ORDER verify alike unless S must be canonical."""


def good(**more: Any) -> Transaction:
    return pay(GENESIS, [*ALICES[:2], BOBS[0]], [(address(BOB), COIN)], **more)


def raw(
    outputs: list[tuple[int, str]], *, inputs: int = 1, fee: int = 10_000, sequence: int = FINAL_SEQUENCE
) -> Transaction:
    """Alice's coins into any outputs, well signed, whatever they sum to."""
    spent = tuple(TxInput(outpoint, tuple(ALICE.public_bytes), sequence) for outpoint, _, _ in ALICES[:inputs])
    return sign(GENESIS, spent, tuple(TxOutput(amount, where) for amount, where in outputs), [ALICE], fee=fee)


def signed_again(tx: Transaction, **fields: Any) -> Transaction:
    """``tx`` with other fields, its txid computed anew, its signature left as it was."""
    changed = replace(tx, **fields)
    return replace(
        changed, txid=txid_of(canonical_bytes(changed.inputs, changed.outputs, changed.timestamp, changed.fee))
    )


def problem(tx: Transaction, genesis_hash: str = GENESIS.hash) -> str | None:
    try:
        validation.check_stateless(tx, DEVNET, genesis_hash)
    except Refusal as refusal:
        return str(refusal.code)
    return None


def problem_here(tx: Transaction) -> str | None:
    coins = dict(GENESIS.coins())
    try:
        validation.check_context(tx, [Coin(coins[outpoint], UNSPENT) for outpoint in tx.outpoints], DEVNET)
    except Refusal as refusal:
        return str(refusal.code)
    return None


def malleated(tx: Transaction) -> Transaction:
    """The first signature with S + ORDER instead of S: the same equation, another encoding."""
    signature = bytes(tx.signature)
    s = int.from_bytes(signature[32:64], "little") + ORDER
    return replace(tx, signature=tuple(signature[:32] + s.to_bytes(32, "little") + signature[64:]))


class ByItself(SynchronousTestCase):
    """What a transaction must be by itself."""

    def test_a_good_one_passes(self) -> None:
        """The table below is about what is wrong with it, not about the base it changes."""
        self.assertIsNone(problem(good()))
        self.assertIsNone(problem_here(good()))
        self.assertEqual(len(good().keys), 2)

    def test_each_fault_has_its_code(self) -> None:
        """Forged ids, amounts, fees, shapes and signatures (H-16 to H-20)."""
        tx, a = good(), address(ALICE)
        first, second = bytes(tx.signature[:64]), bytes(tx.signature[64:])
        most = 2**64 - 1
        table: list[tuple[str, Transaction, str]] = [
            ("txid of another", replace(tx, txid="00" * 32), "txid_mismatch"),
            ("output changed after signing, txid kept", replace(tx, outputs=tx.outputs[:1]), "txid_mismatch"),
            ("output changed after signing", signed_again(tx, outputs=tx.outputs[:1]), "bad_signature"),
            ("timestamp changed after signing", signed_again(tx, timestamp=9), "bad_signature"),
            ("fee changed after signing", signed_again(tx, fee=10_001), "bad_signature"),
            ("the same coin twice", pay(GENESIS, [ALICES[0], ALICES[0]], [(a, COIN)]), "invalid_transaction"),
            ("twice, not in a row", pay(GENESIS, [ALICES[0], BOBS[0], ALICES[0]], [(a, COIN)]), "invalid_transaction"),
            ("sequence not final", raw([(COIN, a)], sequence=0), "invalid_transaction"),
            ("dust", raw([(DEVNET.dust - 1, a)]), "dust"),
            ("nothing", raw([(0, a)]), "dust"),
            ("no fee", raw([(COIN, a)], fee=0), "fee_too_low"),
            ("a fee too small by one", raw([(COIN, a)], fee=999), "fee_too_low"),
            ("outputs past 2^64", raw([(most, a), (most, a)]), "invalid_transaction"),
            ("outputs that wrap to a good sum", raw([(most, a), (10 * COIN - 9_999, a)]), "invalid_transaction"),
            ("outputs and fee past 2^64", raw([(most, a)], fee=10_000), "invalid_transaction"),
            ("no signature for the second key", replace(tx, signature=tuple(first)), "invalid_transaction"),
            ("one signature too many", replace(tx, signature=tuple(first + second + second)), "invalid_transaction"),
            ("half a signature", replace(tx, signature=tuple((first + second)[:96])), "invalid_transaction"),
            ("signatures in the wrong order", replace(tx, signature=tuple(second + first)), "bad_signature"),
            ("one signature for both keys", replace(tx, signature=tuple(first + first)), "bad_signature"),
            ("S not canonical", malleated(tx), "bad_signature"),
            ("mainnet's address", raw([(COIN, address_of(BOB.public_bytes, NETWORKS["mainnet"]))]), "bad_address"),
            ("an address with a slip", raw([(COIN, a[:-1] + ("1" if a[-1] != "1" else "2"))]), "bad_address"),
            ("not an address", raw([(COIN, "TIME0x")]), "bad_address"),
        ]
        for name, wrong, code in table:
            self.assertEqual(problem(wrong), code, name)

    def test_the_limits_themselves_are_allowed(self) -> None:
        """Exactly dust, exactly the least fee, exactly 2^64 - 1 in all."""
        a = address(ALICE)
        self.assertIsNone(problem(raw([(DEVNET.dust, a)], fee=1_000)))
        self.assertIsNone(problem(raw([(2**64 - 1 - 10_000, a)])))

    def test_a_small_order_key_signs_nothing(self) -> None:
        """The neutral element as a key would verify a zero signature over anything (H-17)."""
        weak = bytes([1] + [0] * 31)
        inputs = (TxInput(ALICES[0][0], tuple(weak), FINAL_SEQUENCE),)
        outputs = (TxOutput(COIN, address(BOB)),)
        canonical = canonical_bytes(inputs, outputs, 0, 10_000)
        tx = Transaction(txid_of(canonical), inputs, outputs, 0, tuple(weak + bytes(32)), 10_000)
        self.assertEqual(problem(tx), "bad_signature")

    def test_another_networks_transaction_is_not_ours(self) -> None:
        """A signature names the genesis: a replay from another network fails (B-08)."""
        elsewhere = make_genesis(4, [ALICE], coins=1)
        self.assertNotEqual(elsewhere.hash, GENESIS.hash)
        self.assertEqual(problem(good(), elsewhere.hash), "bad_signature")
        tx = good()
        self.assertNotEqual(sighash(tx.canonical, GENESIS.hash), sighash(tx.canonical, elsewhere.hash))

    def test_size_is_refused_before_any_signature_is_checked(self) -> None:
        """The costly check comes last (L-10)."""
        many = tuple(TxOutput(COIN, address(BOB)) for _ in range(1_000))
        alice = tuple(ALICE.public_bytes)
        inputs = tuple(TxInput(Outpoint("dd" * 32, vout), alice, FINAL_SEQUENCE) for vout in range(1_000))
        tx = sign(GENESIS, inputs, many, [ALICE], fee=200_000)
        self.assertGreater(len(tx.canonical) + 64, limits.TRANSACTION_SIZE)
        with mock.patch.object(validation, "verify", side_effect=AssertionError("too early")):
            self.assertEqual(problem(tx), "over_limit")
            self.assertEqual(problem(replace(good(), txid="00" * 32)), "txid_mismatch")


class Together(SynchronousTestCase):
    """What a transaction must be against the coins it spends."""

    def test_someone_elses_coin(self) -> None:
        """Well signed by a key that does not own the coin: X-1 of the original."""
        theft = pay(GENESIS, [(BOBS[0][0], BOBS[0][1], ALICE)], [(address(ALICE), COIN)])
        self.assertIsNone(problem(theft))
        self.assertEqual(problem_here(theft), "not_owner")
        among = pay(GENESIS, [ALICES[0], (BOBS[0][0], BOBS[0][1], ALICE)], [(address(ALICE), COIN)])
        self.assertEqual(problem_here(among), "not_owner")

    def test_value_is_kept_to_the_last_unit(self) -> None:
        """One unit more or less than the inputs hold is refused (H-18)."""
        a = address(ALICE)
        for extra, code in ((1, "value_mismatch"), (-1, "value_mismatch"), (0, None), (2**63, "value_mismatch")):
            self.assertEqual(problem_here(raw([(10 * COIN - 10_000 + extra, a)])), code)

    def test_a_replica_refuses_each_with_its_code_and_locks_nothing(self) -> None:
        """The one gate, as a wallet meets it: code told, no lock, no vote, nothing stored."""
        alone = Alone(4)
        a, coin, foreign = address(alone.wallets[0]), alone.coins()[0], alone.coins(1)[0]
        theft = pay(alone.genesis, [(foreign[0], foreign[1], alone.wallets[0])], [(a, COIN)])
        inflation = pay(alone.genesis, [(coin[0], coin[1] + 1, coin[2])], [(a, COIN)])
        nowhere = pay(alone.genesis, [(Outpoint(alone.genesis.hash, 99), COIN, coin[2])], [(a, COIN // 2)])
        for tx, code in ((theft, "not_owner"), (inflation, "value_mismatch"), (nowhere, "unknown_input")):
            self.assertEqual(alone.answer(alone.submit(tx)), code)
            alone.show(tx)
            self.assertEqual(alone.voted(tx), (False, False))
            self.assertIsNone(alone.store.transaction(tx.txid))
        self.assertEqual({alone.state(outpoint) for outpoint, _ in alone.genesis.coins()}, {UNSPENT})
        self.assertEqual(alone.answer(alone.submit(alone.pay([coin]))), "accepted")
