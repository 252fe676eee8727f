"""Keys from words: the published vectors, and phrases as people type them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from timeproto.errors import ConfigurationError
from timeproto.model.keys import verify
from timeproto.params import NETWORKS
from timeproto.wallet import hd

VECTORS = Path(__file__).parent.parent / "vectors"
PHRASE = "legal winner thank year wave sausage worth useful legal winner thank yellow"
SEED = bytes(range(64))


def cases(suite: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{suite}.json").read_text("utf-8"))["cases"]
    return found


class PublishedVectors(SynchronousTestCase):
    def test_bip39(self) -> None:
        """Every reference phrase comes from its entropy, and every seed from its phrase; the wrong ones are refused."""
        accepted = refused = 0
        for case in cases("bip39"):
            asked, value = case["input"], case.get("value")
            if case["expect"] != "accept":
                self.assertRaises(ConfigurationError, _phrase_of_case, asked)
                refused += 1
                continue
            phrase = _phrase_of_case(asked)
            self.assertEqual(hd.seed_of(phrase, asked.get("passphrase", "")).hex(), value["seed"], case["id"])
            self.assertEqual(phrase, value.get("mnemonic", phrase), case["id"])
            accepted += 1
        self.assertGreater(accepted, 10)
        self.assertGreater(refused, 2)

    def test_slip10(self) -> None:
        """Vectors 1 and 2 of SLIP-0010 for Ed25519, every step of their paths; what is not hardened is refused."""
        accepted = refused = 0
        for case in cases("slip10"):
            seed, path = bytes.fromhex(case["input"]["seed"]), case["input"]["path"]
            if case["expect"] != "accept":
                self.assertRaises(ConfigurationError, hd.slip10, seed, path)
                refused += 1
                continue
            value = case["value"]
            wanted = tuple(bytes.fromhex(value[name]) for name in ("private", "chain_code", "public"))
            self.assertEqual(hd.slip10(seed, path), wanted, case["id"])
            accepted += 1
        self.assertGreaterEqual(accepted, 12)
        self.assertGreater(refused, 0)


def _phrase_of_case(asked: dict[str, str]) -> str:
    if "entropy" in asked:
        return hd.check_phrase(hd.phrase_of(bytes.fromhex(asked["entropy"])))
    return hd.check_phrase(asked["mnemonic"])


class Phrases(SynchronousTestCase):
    def refused(self, phrase: str) -> str:
        message = str(self.assertRaises(ConfigurationError, hd.check_phrase, phrase))
        self.assertNotIn("\n", message)
        self.assertLess(len(message), 120)
        return message

    def test_every_length_that_is_made_is_accepted(self) -> None:
        """A new phrase has as many words as asked for, passes its own check, and is never the same."""
        for words in (12, 15, 18, 21, 24):
            phrase = hd.generate_phrase(words)
            self.assertEqual(len(phrase.split(" ")), words)
            self.assertEqual(hd.check_phrase(phrase), phrase)
            self.assertNotEqual(hd.generate_phrase(words), phrase)

    def test_other_lengths_are_refused(self) -> None:
        """Neither made nor taken."""
        for words in (-12, 0, 1, 11, 13, 25, 48):
            self.assertRaises(ConfigurationError, hd.generate_phrase, words)
        for words in (0, 1, 11, 13, 25, 10_000):
            self.assertIn(str(words), self.refused("abandon " * words))
        for size in (0, 1, 15, 17, 33, 64):
            self.assertRaises(ConfigurationError, hd.phrase_of, bytes(size))

    @given(st.sampled_from([16, 20, 24, 28, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
    def test_any_entropy_makes_a_good_phrase(self, entropy: bytes) -> None:
        """What is made from entropy passes its own check."""
        phrase = hd.phrase_of(entropy)
        self.assertEqual(hd.check_phrase(phrase), phrase)

    @given(st.lists(st.sampled_from([" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000"]), min_size=13, max_size=13))
    def test_spaces_and_capitals_do_not_matter(self, spaces: list[str]) -> None:
        """A phrase pasted from a mail or a table is the same phrase."""
        words = PHRASE.upper().split()
        typed = spaces[0] + "".join(word + space for word, space in zip(words, spaces[1:], strict=True))
        self.assertEqual(hd.check_phrase(typed), PHRASE)

    def test_wide_letters_are_the_same_letters(self) -> None:
        """Full-width letters become plain ones (NFKD)."""
        wide = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in PHRASE)
        self.assertEqual(hd.check_phrase(wide), PHRASE)

    def test_a_wrong_word_is_named_by_its_place_only(self) -> None:
        """The sentence may stand in a log or a screenshot: no word of the phrase is in it, not even the wrong one."""
        words = PHRASE.split()
        for place in range(1, 13):
            typed = [*words]
            typed[place - 1] = "zzyzx"
            message = self.refused(" ".join(typed))
            self.assertIn(f"word {place} ", message)
            for word in (*words, "zzyzx"):
                self.assertNotIn(word, message.split())

    def test_the_checksum_is_named(self) -> None:
        """Good words, wrong phrase; again nothing of it is told."""
        words = PHRASE.split()
        for phrase in (" ".join([words[1], words[0], *words[2:]]), "abandon " * 12):
            message = self.refused(phrase)
            self.assertIn("checksum", message)
            self.assertNotIn("legal", message)
            self.assertNotIn("abandon", message)

    @given(st.text(max_size=80))
    def test_any_text_is_judged(self, text: str) -> None:
        """Whatever somebody types, the answer is a sentence, never a crash."""
        self.refused(text)


class Keys(SynchronousTestCase):
    def test_a_tree_walks_the_path_of_slip10(self) -> None:
        """The short cut past the part that never changes leads to the same key as the whole path."""
        tree = hd.Tree(SEED)
        for account, change, index in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (7, 1, 2**31 - 1)):
            private, _, public = hd.slip10(SEED, f"m/44'/0'/{account}'/{change}'/{index}'")
            key = tree.key(account, change, index)
            self.assertEqual((key.seed, key.public_bytes), (private, public))

    def test_derive_is_the_tree_of_the_phrase(self) -> None:
        """One key at a time or many from a tree: the same keys; the passphrase counts."""
        tree = hd.Tree(hd.seed_of(PHRASE))
        for account, change, index in ((0, 0, 0), (2, 1, 9)):
            derived = hd.derive(PHRASE, account=account, change=change, index=index)
            self.assertEqual(derived.seed, tree.key(account, change, index).seed)
        self.assertEqual(hd.derive(PHRASE).seed, tree.key(0, 0, 0).seed)
        self.assertNotEqual(hd.derive(PHRASE, passphrase="x").seed, tree.key(0, 0, 0).seed)

    @settings(max_examples=25)
    @given(st.sets(st.tuples(*[st.integers(0, 2**31 - 1)] * 3), min_size=2, max_size=5))
    def test_every_place_has_its_own_key(self, places: set[tuple[int, int, int]]) -> None:
        """No two paths lead to one key, and every key signs."""
        tree = hd.Tree(SEED)
        keys = [tree.key(*place) for place in places]
        self.assertEqual(len({key.public_hex for key in keys}), len(places))
        self.assertTrue(verify(keys[0].public_bytes, b"what", keys[0].sign(b"what")))

    def test_a_number_that_is_no_step(self) -> None:
        """2^31 would be 0 again, with the hardened bit set: refused, so that two numbers never name one key."""
        tree = hd.Tree(SEED)
        for place in ((2**31, 0, 0), (0, 2**31, 0), (0, 0, 2**31), (0, 0, 2**32 - 1), (0, 0, -1), (-1, 0, 0)):
            self.assertRaises(ConfigurationError, tree.key, *place)

    def test_the_address_is_of_the_network(self) -> None:
        """One key, one address for each kind of network."""
        key = hd.Tree(SEED).key(0, 0, 0)
        self.assertTrue(hd.address(key, NETWORKS["mainnet"]).startswith("TIME1"))
        self.assertTrue(hd.address(key, NETWORKS["devnet"]).startswith("TIME0"))

    def test_nothing_secret_is_shown(self) -> None:
        """Neither a tree nor a key says its secret when it is printed."""
        tree = hd.Tree(SEED)
        key = tree.key(0, 0, 0)
        shown = repr(tree) + repr(key) + str(key)
        self.assertNotIn(key.seed.hex(), shown)
        self.assertNotIn(SEED.hex(), shown)
