"""The products kept for the next block, against the same multiplied anew."""

from __future__ import annotations

from unittest import mock

from gmpy2 import invert, mpz
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from timeproto import limits
from timeproto.consensus import moved as moved_module
from timeproto.consensus.moved import Moved, Movements
from timeproto.model.muhash import MODULUS, multiply, number_of

TXIDS = st.sampled_from([f"{number:064x}" for number in range(12)])


def moved(txid: str) -> Moved:
    return Moved(number_of(b"made" + bytes.fromhex(txid)), number_of(b"spent" + bytes.fromhex(txid)))


def ratio(made: mpz, spent: mpz) -> mpz:
    return made * invert(spent, MODULUS) % MODULUS


class Products(SynchronousTestCase):
    """What becomes final, blocks that take some of it, and blocks that are asked about."""

    @given(st.lists(st.tuples(st.sampled_from(["add", "remove", "of"]), st.lists(TXIDS, unique=True))))
    def test_they_are_those_of_the_block(self, story: list[tuple[str, list[str]]]) -> None:
        """Whatever is known beside a block, and whatever of it is not known; where much is left behind too."""
        with mock.patch.object(limits, "BLOCK_WORTH", 4):
            movements = Movements()
            for what, txids in story:
                if what == "add":
                    for txid in txids:
                        if movements.get(txid) is None:
                            movements.add(txid, moved(txid))
                elif what == "remove":
                    movements.remove(txids)
                    self.assertFalse(any(map(movements.get, txids)))
                else:
                    together = movements.of({txid: moved(txid) for txid in txids})
                    made = multiply(moved(txid).made for txid in txids)
                    spent = multiply(moved(txid).spent for txid in txids)
                    self.assertEqual(ratio(together.made, together.spent), ratio(made, spent))

    def test_a_block_of_nearly_all_is_cheap(self) -> None:
        """It costs what it leaves out and what is new in it, not what it has in common with what is known."""
        known = {txid: moved(txid) for txid in (f"{number:064x}" for number in range(100))}
        movements = Movements()
        for txid, each in known.items():
            movements.add(txid, each)
        block = {**dict(list(known.items())[3:]), "aa" * 32: moved("aa" * 32)}
        multiplied: list[mpz] = []

        def count(numbers: list[mpz]) -> mpz:
            multiplied.extend(numbers)
            return multiply(numbers)

        with mock.patch.object(moved_module, "multiply", count):
            movements.of(block)
        self.assertEqual(len(multiplied), 2 * (1 + 1 + 3))
