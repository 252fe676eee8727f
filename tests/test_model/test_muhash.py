"""MuHash3072: one hash for a set, the same for whoever arrives at the set by whatever way (protocol §6)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from timeproto.model import muhash
from timeproto.model.muhash import (
    MODULUS,
    SIZE,
    MuHash,
    number_of,
    product,
    stream_of_cryptography,
    stream_of_libsodium,
)

MEMBERS = st.lists(st.binary(max_size=60), max_size=12, unique=True)


def hashed(*members: bytes) -> MuHash:
    return MuHash().replace(added=members)


class Sets(SynchronousTestCase):
    def test_the_published_vector(self) -> None:
        """Bitcoin Core's: two members in, one out that was never in; its digest is printed in reverse byte order."""
        coins = hashed(bytes(32), b"\x01" + bytes(31)).replace(removed=[b"\x02" + bytes(31)])
        expected = "10d312b100cbd32ada024a6646e40d3482fcff103668d2625f10002a607d5863"
        self.assertEqual(bytes.fromhex(coins.digest)[::-1].hex(), expected)

    @given(MEMBERS, st.randoms(use_true_random=False))
    def test_order_does_not_matter(self, members: list[bytes], random_: object) -> None:
        """All at once, in another order, or one by one: the same set, the same digest."""
        shuffled = sorted(members, key=lambda _: random_.random())  # type: ignore[attr-defined]
        one_by_one = MuHash()
        for member in shuffled:
            one_by_one = one_by_one.replace(added=[member])
        self.assertEqual({hashed(*members), hashed(*shuffled), one_by_one}, {one_by_one})
        self.assertEqual(hashed(*members).digest, one_by_one.digest)

    @given(MEMBERS, MEMBERS)
    def test_what_is_taken_out_was_never_in(self, stays: list[bytes], goes: list[bytes]) -> None:
        """Removing leads to the digest made from scratch of what is left: also in the step that adds, and before it."""
        stays = [member for member in stays if member not in goes]
        scratch = hashed(*stays)
        self.assertEqual(hashed(*goes, *stays).replace(removed=goes), scratch)
        self.assertEqual(hashed(*goes).replace(added=stays, removed=goes), scratch)
        self.assertEqual(MuHash().replace(removed=goes).replace(added=[*stays, *goes]), scratch)

    @given(MEMBERS, st.binary(max_size=60))
    def test_one_member_more_is_another_set(self, members: list[bytes], more: bytes) -> None:
        """Also if it is in already: two of one coin are not one."""
        self.assertNotEqual(hashed(*members), hashed(*members, more))
        self.assertNotEqual(hashed(*members).digest, hashed(*members, more).digest)

    @given(MEMBERS)
    def test_the_value_is_all_there_is_to_keep(self, members: list[bytes]) -> None:
        """A set goes on from its value after a restart; a value is always below the prime."""
        coins = hashed(*members)
        self.assertTrue(0 < coins.value < MODULUS)
        self.assertEqual(MuHash(coins.value).replace(added=[b"x"]), coins.replace(added=[b"x"]))
        self.assertEqual(MuHash(coins.value + MODULUS), coins)

    @given(st.binary(min_size=32, max_size=32))
    def test_both_libraries_draw_one_stream(self, key: bytes) -> None:
        """Numbers do not depend on which of them made them: nodes that differ would never agree on a block."""
        quick = stream_of_libsodium()
        assert quick is not None  # where the tests run it is there; else the slower one is used without a word
        self.assertEqual(quick(key), stream_of_cryptography(key))

    def test_a_libsodium_that_cannot_be_reached(self) -> None:
        """PyNaCl may be built so that it hides its functions, or has another under the name: then the other library."""
        real = muhash.import_module
        for module in ("json", "math", "no_such_module"):
            self.patch(muhash, "import_module", lambda _, module=module: real(module))
            self.assertIsNone(stream_of_libsodium(), module)
        self.patch(muhash, "import_module", real)
        self.patch(muhash, "_ANSWER", "0" * 64)
        self.assertIsNone(stream_of_libsodium())

    def test_a_key_of_another_length(self) -> None:
        """Is refused by either library: the one that is called by its address would read beyond it."""
        quick = stream_of_libsodium()
        assert quick is not None
        for key in (b"", bytes(31), bytes(33)):
            self.assertRaises(ValueError, quick, key)
            self.assertRaises(ValueError, stream_of_cryptography, key)

    @given(MEMBERS)
    def test_a_product_is_the_plain_one(self, members: list[bytes]) -> None:
        """The short way of reducing it is congruent to the long way, and does not grow."""
        expected = 1
        for member in members:
            expected = expected * number_of(member) % MODULUS
        total = product(members)
        self.assertEqual(total % MODULUS, expected)
        self.assertLess(total, 2 ** (8 * SIZE))

    def test_the_empty_set(self) -> None:
        """Is 1, and what everything comes back to."""
        self.assertEqual(MuHash().value, 1)
        self.assertEqual(hashed(b"a", b"b").replace(removed=[b"b", b"a"]), MuHash())
        self.assertNotEqual(MuHash(), 1)
