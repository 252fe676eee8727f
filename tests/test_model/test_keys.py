"""Ed25519 keys: what is refused besides a wrong signature, and what a key shows of itself."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB
from timeproto.model.canonical import domain
from timeproto.model.keys import Remembered, SigningKey, verify


class Keys(SynchronousTestCase):
    def test_signing_is_deterministic(self) -> None:
        """The same key and message give the same bytes, so a vote served again is the vote."""
        self.assertEqual(ALICE.sign(b"m"), SigningKey(ALICE.seed).sign(b"m"))
        self.assertTrue(verify(ALICE.public_bytes, b"m", ALICE.sign(b"m")))

    def test_verify_never_raises(self) -> None:
        """Bytes of any length for key and signature are a plain no."""
        signature = ALICE.sign(b"m")
        for length in (0, 1, 31, 33, 63, 64, 65, 128):
            self.assertFalse(verify(bytes(length), b"m", signature))
            self.assertFalse(verify(ALICE.public_bytes, b"m", bytes(length)))

    def test_every_bit_counts(self) -> None:
        """Each flipped bit of the signature makes it invalid."""
        signature = ALICE.sign(b"m")
        for bit in range(512):
            changed = bytearray(signature)
            changed[bit // 8] ^= 1 << bit % 8
            self.assertFalse(verify(ALICE.public_bytes, b"m", bytes(changed)), f"bit {bit}")

    def test_another_key_or_message(self) -> None:
        """A signature is of one key over one message."""
        self.assertFalse(verify(BOB.public_bytes, b"m", ALICE.sign(b"m")))
        self.assertFalse(verify(ALICE.public_bytes, b"n", ALICE.sign(b"m")))

    def test_what_is_remembered(self) -> None:
        """The newest that held, and nothing that did not; another message or key is looked at for itself."""
        known = Remembered(2)
        good = [(ALICE.public_bytes, message, ALICE.sign(message)) for message in (b"1", b"2", b"3")]
        key, message, signature = good[0]
        bad = [(BOB.public_bytes, message, signature), (key, b"4", signature), (key, message, signature[::-1])]
        for each in (*good, *bad, *bad, *good[1:]):
            self.assertEqual(known.verify(*each), each in good)
        self.assertEqual(known.new([*good, *bad]), [good[0], *bad])

    def test_no_secret_in_the_representation(self) -> None:
        """A key that lands in a log shows only its public half."""
        for shown in (repr(ALICE), str(ALICE), f"{ALICE}"):
            self.assertIn(ALICE.public_hex, shown)
            self.assertNotIn(ALICE.seed.hex(), shown)
        self.assertFalse(hasattr(ALICE, "__dict__"))

    def test_fresh_keys_differ(self) -> None:
        """Two generated keys are not one."""
        self.assertNotEqual(SigningKey.generate().public_hex, SigningKey.generate().public_hex)


class Domains(SynchronousTestCase):
    def test_domains_are_disjoint(self) -> None:
        """No prefix of what is signed serves two purposes or two networks, nor begins another."""
        prefixes = [domain(what, genesis * 32) for what in ("tx", "vote", "handshake") for genesis in ("00", "01")]
        for first in prefixes:
            for second in prefixes:
                self.assertEqual(first.startswith(second), first is second)
