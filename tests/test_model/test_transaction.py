"""Transactions: what the txid covers, what each owner signs, and the one spelling of an outpoint."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, CAROL, GENESIS, PAYMENT, address, build, replace
from timeproto.model.canonical import Noun
from timeproto.model.keys import verify
from timeproto.model.transaction import Outpoint, Transaction, TxInput, TxOutput, parse_outpoint, sighash

H = "ab" * 32
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
HEX32 = st.binary(min_size=32, max_size=32).map(bytes.hex)
INPUTS = st.builds(TxInput, st.builds(Outpoint, HEX32, U32), st.tuples(*[st.integers(0, 255)] * 32), U32)
OUTPUTS = st.builds(TxOutput, U64, st.text(min_size=6, max_size=48))
BODIES = st.builds(
    Transaction,
    txid=st.just(H),
    inputs=st.lists(INPUTS, min_size=1, max_size=3).map(tuple),
    outputs=st.lists(OUTPUTS, min_size=1, max_size=3).map(tuple),
    timestamp=st.integers(-(2**63), 2**63 - 1),
    signature=st.just((0,) * 64),
    fee=U64,
)


def read_back(data: bytes) -> tuple[list[Any], list[Any], int, int]:
    """A reader of canonical bytes, written from the documentation and not from the writer."""
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        if at > len(data):
            raise ValueError("too short")
        return data[at - size : at]

    def number(size: int, *, signed: bool = False) -> int:
        return int.from_bytes(take(size), "little", signed=signed)

    inputs = [(take(32).hex(), number(4), take(number(4)), number(4)) for _ in range(number(4))]
    outputs = [(number(8), take(number(4)).decode("utf-8")) for _ in range(number(4))]
    timestamp, fee = number(8, signed=True), number(8)
    if at != len(data):
        raise ValueError("too long")
    return inputs, outputs, timestamp, fee


class CanonicalBytes(SynchronousTestCase):
    @given(BODIES)
    def test_nothing_is_lost(self, tx: Transaction) -> None:
        """The bytes can be read back into all that was written: no two transactions share them."""
        inputs, outputs, timestamp, fee = read_back(tx.canonical)
        spent = [(i.previous_output.txid, i.previous_output.vout, bytes(i.script_sig), i.sequence) for i in tx.inputs]
        self.assertEqual(inputs, spent)
        self.assertEqual(outputs, [(o.amount, o.address) for o in tx.outputs])
        self.assertEqual((timestamp, fee), (tx.timestamp, tx.fee))

    def test_every_field_is_in_the_txid(self) -> None:
        """Change any field but the signature and the claimed txid, and the computed txid is another."""
        coin, output = PAYMENT.inputs[0], PAYMENT.outputs[0]
        outpoint = coin.previous_output
        key = tuple(BOB.public_bytes)
        changed = [
            replace(PAYMENT, fee=PAYMENT.fee + 1),
            replace(PAYMENT, timestamp=PAYMENT.timestamp + 1),
            replace(PAYMENT, timestamp=-PAYMENT.timestamp),
            replace(PAYMENT, inputs=(replace(coin, sequence=0),)),
            replace(PAYMENT, inputs=(replace(coin, script_sig=key),)),
            replace(PAYMENT, inputs=(replace(coin, previous_output=replace(outpoint, vout=1)),)),
            replace(PAYMENT, inputs=(replace(coin, previous_output=replace(outpoint, txid=H)),)),
            replace(PAYMENT, inputs=(coin, coin)),
            replace(PAYMENT, outputs=(replace(output, amount=output.amount - 1), *PAYMENT.outputs[1:])),
            replace(PAYMENT, outputs=(replace(output, address=address(CAROL)), *PAYMENT.outputs[1:])),
            replace(PAYMENT, outputs=PAYMENT.outputs[::-1]),
            replace(PAYMENT, outputs=PAYMENT.outputs[:1]),
        ]
        txids = {tx.computed_txid for tx in changed}
        self.assertEqual(len(txids), len(changed))
        self.assertNotIn(PAYMENT.txid, txids)

    def test_signature_and_claim_are_not_in_the_txid(self) -> None:
        """Malleable bytes do not change the name of a payment, and nobody can claim another."""
        for tx in (replace(PAYMENT, signature=(0,) * 64), replace(PAYMENT, txid=H)):
            self.assertEqual(tx.computed_txid, PAYMENT.txid)

    def test_text_of_one_field_cannot_slide_into_the_next(self) -> None:
        """Lengths stand before texts: moving a character between two addresses changes the bytes."""
        one = replace(PAYMENT, outputs=(TxOutput(1, "aaaaaaa"), TxOutput(1, "bbbbbb")))
        other = replace(PAYMENT, outputs=(TxOutput(1, "aaaaaa"), TxOutput(1, "abbbbbb")))
        self.assertNotEqual(one.canonical, other.canonical)


class Signing(SynchronousTestCase):
    def test_the_digest_names_the_network(self) -> None:
        """What an owner signs on one network is nothing on another."""
        self.assertNotEqual(sighash(PAYMENT.canonical, GENESIS.hash), sighash(PAYMENT.canonical, H))

    def test_one_signature_for_each_owner(self) -> None:
        """However many coins an owner spends, one signature is enough; owners come in order of appearance."""
        coins = [(Outpoint(H, 0), BOB), (Outpoint(H, 1), ALICE), (Outpoint(H, 2), BOB)]
        tx = build(coins, [(1_000, address(CAROL))])
        self.assertEqual(tx.keys, (BOB.public_bytes, ALICE.public_bytes))
        digest = sighash(tx.canonical, GENESIS.hash)
        self.assertEqual(len(tx.signatures), 2)
        for key, signature in zip(tx.keys, tx.signatures, strict=True):
            self.assertTrue(verify(key, digest, signature))

    def test_a_short_last_signature_shows(self) -> None:
        """Bytes that do not divide by 64 are not silently dropped."""
        self.assertEqual([len(part) for part in replace(PAYMENT, signature=(0,) * 100).signatures], [64, 36])

    def test_outpoints(self) -> None:
        """A transaction names the coins it spends in order, and those it creates by its txid."""
        self.assertEqual(PAYMENT.outpoints, (Outpoint(GENESIS.hash, 0),))
        self.assertEqual(str(PAYMENT.output_outpoint(1)), f"{PAYMENT.txid}:1")


class OutpointGrammar(SynchronousTestCase):
    @given(HEX32, U32)
    def test_both_forms_mean_the_same(self, txid: str, vout: int) -> None:
        """Object and text are read as one outpoint, and its text is what was read."""
        wanted = Outpoint(txid, vout)
        self.assertEqual(parse_outpoint({"txid": txid, "vout": vout}), wanted)
        self.assertEqual(parse_outpoint(str(wanted)), wanted)
        self.assertEqual(parse_outpoint(wanted), wanted)

    def test_everything_else_is_malformed(self) -> None:
        """One spelling of each number, lower-case hex only, no extra field, no white space."""
        good_texts = [f"{H}:0", f"{H}:4294967295"]
        self.assertTrue(all(parse_outpoint(text) for text in good_texts))
        wrong: list[Any] = [
            *(f"{H}:{vout}" for vout in ("", "-0", "-1", "+1", "01", "00", "1 ", " 1", "1_0", "1.0", "1e3", "0x1", "١",
                                         "１", "²", "4294967296", "9" * 400, "9" * 5000, "None", ":0", "0:0")),
            *(f"{txid}:0" for txid in ("", H[:-1], H + "0", H.upper(), f" {H}", f"{H} ", f"{H}\n", "0x" + H[2:],
                                       "g" * 64, "é" * 64, "١" * 64)),
            H, "", ":", f"{H}0", f"{H};0",
            {"txid": H}, {"vout": 0}, {}, {"txid": H, "vout": 0, "x": 1}, {"txid": H, "vout": "0"},
            {"txid": H, "vout": True}, {"txid": H, "vout": 0.0}, {"txid": H, "vout": -1}, {"txid": H, "vout": 2**32},
            {"txid": H, "vout": None}, {"txid": H.upper(), "vout": 0}, {"txid": None, "vout": 0},
            {"txid": [H], "vout": 0}, {"txid": H.encode(), "vout": 0},
            None, True, 0, 1.5, [], [H, 0], [f"{H}:0"], b"x", (H, 0), float("nan"),
        ]  # fmt: skip
        self.assertEqual([item for item in wrong if parse_outpoint(item) is not None], [])

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["txid", "vout", "x"]), inner)))
    def test_any_json_value_is_judged(self, item: Any) -> None:
        """Whatever JSON a wallet sends as an item, the answer is an outpoint or None."""
        parsed = parse_outpoint(item)
        self.assertTrue(parsed is None or parsed.txid in str(item))

    def test_order_of_outpoints(self) -> None:
        """Pages are in order of txid, then of output number as a number."""
        first, second, third = Outpoint("00" * 32, 10), Outpoint("01" * 32, 2), Outpoint("01" * 32, 10)
        self.assertEqual(sorted([third, first, second]), [first, second, third])


class Nouns(SynchronousTestCase):
    def test_nouns_are_frozen(self) -> None:
        """No noun can be changed after it was judged."""
        for noun in (PAYMENT, PAYMENT.outputs[0], PAYMENT.inputs[0], GENESIS):
            self.assertIsInstance(noun, Noun)
            for field in noun.__struct_fields__:
                self.assertRaises(AttributeError, setattr, noun, field, None)

    def test_amounts_are_bounded(self) -> None:
        """2^64 is no amount and no fee."""
        self.assertRaises(ValueError, TxOutput, 2**64, address(BOB))
        self.assertRaises(ValueError, replace, PAYMENT, fee=2**64)
