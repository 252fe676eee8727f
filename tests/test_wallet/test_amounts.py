"""Amounts: one exact meaning for every text, and one text for every amount."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from timeproto.errors import ConfigurationError
from timeproto.params import COIN, MAX_AMOUNT
from timeproto.wallet.amounts import format_amount, parse_amount


class Amounts(SynchronousTestCase):
    def refused(self, text: str) -> str:
        message = str(self.assertRaises(ConfigurationError, parse_amount, text))
        self.assertNotIn("\n", message)
        self.assertLess(len(message), 160)
        return message

    def test_examples(self) -> None:
        """What people type, in smallest units."""
        for text, units in (
            ("1.5", 150_000_000),
            ("0.00000001", 1),
            ("12", 12 * COIN),
            ("12.0", 12 * COIN),
            ("0", 0),
            ("0.1", 10_000_000),
            ("184467440737.09551615", MAX_AMOUNT),
        ):
            self.assertEqual(parse_amount(text), units)

    def test_written_short(self) -> None:
        """No exponent, no zeros at the end, no point without decimals."""
        for units, text in (
            (0, "0"),
            (1, "0.00000001"),
            (10, "0.0000001"),
            (COIN, "1"),
            (10 * COIN, "10"),
            (100 * COIN + 1, "100.00000001"),
            (150_000_000, "1.5"),
            (MAX_AMOUNT, "184467440737.09551615"),
        ):
            self.assertEqual(format_amount(units), text)

    @given(st.integers(0, MAX_AMOUNT))
    def test_read_back_as_written(self, units: int) -> None:
        """Nothing is lost between the screen and the transaction."""
        text = format_amount(units)
        self.assertEqual(parse_amount(text), units)
        self.assertIsNotNone(re.fullmatch(r"(0|[1-9][0-9]*)(\.[0-9]{0,7}[1-9])?", text))

    def test_other_spellings_are_refused(self) -> None:
        """Signs, exponents, separators, other digits, white space: nobody guesses with money."""
        for text in (
            "", ".", "1.", ".5", "+1", "-1", "-0", "1e3", "1E3", "1_000", "1,5", "1.5.1", "0x10", "nan", "inf",
            " 1", "1 ", "1\n", "1\x00", "１", "١", "1.５", "²", "½", "1.000000000", "0.000000001", "1.5 TIME",
        ):  # fmt: skip
            self.refused(text)

    def test_more_than_there_can_be(self) -> None:
        """One unit past 2^64 - 1, and numbers too long to be any amount."""
        self.refused("184467440737.09551616")
        self.refused("999999999999")
        self.refused("1" * 100_000)
        self.refused("0." + "0" * 100_000)

    @given(st.text(max_size=30) | st.from_regex(r"\A[+-]?[0-9]{0,20}\.?[0-9]{0,12}\Z"))
    def test_any_text_is_an_amount_or_a_sentence(self, text: str) -> None:
        """Whatever is typed, the answer is a whole number in range or a refusal, never a crash."""
        try:
            units = parse_amount(text)
        except ConfigurationError:
            return
        self.assertIs(type(units), int)
        self.assertTrue(0 <= units <= MAX_AMOUNT)
        self.assertRegex(text, r"\A[0-9]+(\.[0-9]{1,8})?\Z")
