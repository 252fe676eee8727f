"""Addresses: only the one spelling we would have written counts."""

from __future__ import annotations

import base58
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, DEVNET, address
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.address import _DIGITS, _decode, address_of, encode_payload, problem_with, require_address
from timeproto.params import NETWORKS

ALPHABET = base58.BITCOIN_ALPHABET.decode()


class Addresses(SynchronousTestCase):
    def refused(self, text: str, network: str = "devnet") -> str:
        error = self.assertRaises(Refusal, require_address, text, NETWORKS[network])
        self.assertEqual(error.code, ErrorCode.BAD_ADDRESS)
        return error.message

    @given(st.binary(min_size=32, max_size=32))
    def test_every_key_has_a_good_address(self, public_key: bytes) -> None:
        """What we write we accept, on its own network and no other kind of network."""
        mainnet, testnet = NETWORKS["mainnet"], NETWORKS["testnet"]
        text = address_of(public_key, mainnet)
        self.assertEqual(require_address(text, mainnet), text)
        self.assertIsNotNone(problem_with(text, testnet))
        self.assertEqual(address_of(public_key, testnet), address_of(public_key, DEVNET))

    def test_every_single_mistake_is_noticed(self) -> None:
        """One character exchanged, left out, doubled or swapped with its neighbour: always refused."""
        good = address(ALICE)
        wrong = {good[:at] + c + good[at + 1 :] for at in range(len(good)) for c in ALPHABET + "0OIl Ilé٠"}
        wrong |= {good[:at] + good[at + 1 :] for at in range(len(good))}
        wrong |= {good[:at] + good[at] + good[at:] for at in range(len(good))}
        wrong |= {good[:at] + good[at + 1] + good[at] + good[at + 2 :] for at in range(len(good) - 1)}
        wrong.discard(good)
        self.assertGreater(len(wrong), 2_000)
        self.assertEqual([text for text in wrong if problem_with(text, DEVNET) is None], [])

    @given(st.binary(max_size=26) | st.binary(min_size=24, max_size=24), st.integers(0, 3))
    def test_as_the_library_reads_it(self, raw: bytes, ones: int) -> None:
        """Any bytes, with zeros before them and digits 1 too many: what we decode is what base58 says, or nothing."""
        text = "1" * ones + base58.b58encode(raw).decode()
        mine = _decode(text.encode().translate(_DIGITS))
        meant = base58.b58decode(text)
        self.assertEqual(mine, meant if len(meant) == 24 else None)

    def test_white_space_is_refused(self) -> None:
        """The base58 library forgives white space at the end; we do not."""
        good = address(ALICE)
        for space in (" ", "\n", "\t", "\r\n", "\u00a0", "\u2003", "\x00"):
            self.refused(good + space)
            self.refused(space + good)
            self.refused(good[:10] + space + good[10:])

    def test_another_network_is_named(self) -> None:
        """The payer learns which network the address belongs to not, in words."""
        self.assertIn("another network", self.refused(address(ALICE, "mainnet")))
        self.assertIn("another network", self.refused(address(ALICE), "mainnet"))

    def test_leading_zero_bytes(self) -> None:
        """A payload that begins with zero bytes keeps them, and ones more or fewer are another spelling."""
        text = encode_payload(bytes(20), DEVNET)
        self.assertIsNone(problem_with(text, DEVNET))
        self.assertTrue(text.startswith("TIME0" + "1" * 20))
        self.refused(text.replace("TIME0", "TIME01"))
        self.refused(text.replace("TIME01", "TIME0", 1))

    def test_wrong_length_with_a_right_checksum(self) -> None:
        """A payload of 19 or 21 bytes is no address, however well it is summed."""
        for size in (0, 19, 21, 24):
            self.refused(encode_payload(bytes(range(size)), DEVNET))

    @given(st.text(max_size=60))
    def test_any_text_is_judged(self, text: str) -> None:
        """Whatever somebody types, the answer is a sentence or None, never a crash."""
        for candidate in (text, "TIME0" + text):
            self.assertIsInstance(problem_with(candidate, DEVNET), str)

    def test_the_message_is_short(self) -> None:
        """A very long wrong address does not come back whole."""
        self.assertLess(len(self.refused("TIME0" + "1" * 100_000)), 200)
