"""Signatures checked eight at a time: never another answer than libsodium's alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from timeproto.model import keys, lanes
from timeproto.model.keys import FEWEST, SigningKey, checked_together, verify
from timeproto.model.lanes import LANES, Signed

SIGNERS = [SigningKey(bytes([number]) * 32) for number in range(12)]
ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19
EDGES = Path(__file__).parents[1] / "vectors" / "ed25519-edge.json"
TIMES = int(os.environ.get("TIMEPROTO_FUZZ", "1"))


def signed(number: int, message: bytes = b"words") -> Signed:
    signer = SIGNERS[number % len(SIGNERS)]
    return signer.public_bytes, message, signer.sign(message)


def edges() -> list[Signed]:
    cases = [case["input"] for case in json.loads(EDGES.read_text("utf-8"))["cases"]]
    return [(*(bytes.fromhex(case[name]) for name in ("public_key", "message", "signature")),) for case in cases]


def answers(every: Sequence[Signed]) -> list[bool]:
    return [verify(*each) for each in every]


def answers_together(every: Sequence[Signed]) -> list[bool]:
    with checked_together(every):
        return answers(every)


def with_order(each: Signed) -> Signed:
    """The same equation, with the order of the group added to S."""
    key, message, signature = each
    return key, message, signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")


@st.composite
def spoilt(draw: st.DrawFn) -> Signed:
    """A signature, whole or with something about it that is not."""
    key, message, signature = draw(st.builds(signed, st.integers(0, 11), st.binary(max_size=300)))
    ways = ["whole", "whole", "key", "message", "R", "S", "order", "high key", "high R", "lengths"]
    match draw(st.sampled_from(ways)):
        case "key":
            key = SIGNERS[draw(st.integers(0, 11))].public_bytes
        case "message":
            message += b"!"
        case "R" | "S" as part:
            at = draw(st.integers(0, 31)) + (32 if part == "S" else 0)
            changed = bytes([signature[at] ^ 1 << draw(st.integers(0, 7))])
            signature = signature[:at] + changed + signature[at + 1 :]
        case "order":
            return with_order((key, message, signature))
        case "high key":
            key = (PRIME + draw(st.integers(-3, 18))).to_bytes(32, "little")
        case "high R":
            signature = (PRIME + draw(st.integers(-3, 18))).to_bytes(32, "little") + signature[32:]
        case "lengths":
            key, signature = key[: draw(st.integers(0, 32))], signature + bytes(draw(st.integers(0, 2)))
    return key, message, signature


class SameAnswers(SynchronousTestCase):
    @settings(max_examples=60 * TIMES)
    @given(st.lists(spoilt(), min_size=1, max_size=20))
    def test_for_whatever_comes_together(self, every: list[Signed]) -> None:
        """Whole, spoilt, of odd lengths, in any mixture: each gets the answer it gets alone."""
        self.assertEqual(answers_together(every), answers(every))

    def test_for_the_cases_on_which_libraries_disagree(self) -> None:
        """In every lane, among honest ones."""
        for edge in edges():
            for lane in range(LANES):
                every = [edge if at == lane else signed(at) for at in range(LANES)]
                self.assertEqual(answers_together(every), answers(every), edge)

    def test_for_points_of_small_order(self) -> None:
        """As a key and as R, with either sign, in the one encoding and in those that are too high."""
        small = {*lanes._SMALL, *((PRIME + more).to_bytes(32, "little") for more in range(-1, 19))}
        small |= {point[:31] + bytes([point[31] | 0x80]) for point in small}
        key, message, signature = signed(1)
        for point in small:
            for scalar in (bytes(32), signature[32:]):
                every = [(point, message, point + scalar), (key, message, point + scalar), (point, message, signature)]
                self.assertEqual([lanes.is_plain(each) for each in every], [False] * 3)
                self.assertEqual(answers_together(every), [False] * 3)

    def test_an_s_is_below_the_order(self) -> None:
        """The sum with the order solves the same equation, and is another's signature under the same words: refused."""
        every = [with_order(signed(number)) for number in range(LANES)]
        self.assertEqual(answers_together(every), [False] * LANES)

    def test_a_no_is_never_the_last_word(self) -> None:
        """What the lanes deny is looked at again, by the one that judges."""
        self.patch(lanes, "are_here", lambda: True)
        self.patch(lanes, "hold", lambda group: [False] * len(group))
        self.assertEqual(answers_together([signed(number) for number in range(9)]), [True] * 9)

    def test_a_fault_in_looking_together_costs_nothing_else(self) -> None:
        """What was found before it counts, and the rest is looked at alone."""
        asked: list[int] = []

        def once(group: Sequence[Signed]) -> list[bool]:
            asked.append(len(group))
            if len(asked) > 1:
                raise MemoryError
            return [True] * len(group)

        self.patch(lanes, "are_here", lambda: True)
        self.patch(lanes, "hold", once)
        every = [(key, bytes([number]), signature) for number, (key, _, signature) in enumerate(map(signed, range(16)))]
        self.assertEqual(answers_together(every), [True] * 8 + [False] * 8)

    def test_without_lanes(self) -> None:
        """Where the library or the processor is another, nothing is done ahead, and every answer is the same."""
        self.patch(lanes, "_library", lambda: (None, "not here"))
        every = [*map(signed, range(9)), with_order(signed(1))]
        with checked_together(self.fail() for _ in range(9)):
            self.assertEqual(answers(every), [True] * 9 + [False])
        self.assertEqual(lanes.hold(every[:2]), [False, False])
        self.assertEqual(lanes.account(), "one by one: not here")


class Memory(SynchronousTestCase):
    def setUp(self) -> None:
        self.asked: list[int] = []
        self.patch(lanes, "are_here", lambda: True)
        self.patch(lanes, "hold", self._hold)

    def _hold(self, group: Sequence[Signed]) -> list[bool]:
        self.asked.append(len(group))
        return [True] * len(group)

    def test_in_groups_that_are_worth_it(self) -> None:
        """Eight by eight; a rest that is checked as fast one by one is left."""
        every = [signed(number % 12, bytes([number])) for number in range(20)]
        for count, asked in ((FEWEST - 1, []), (FEWEST, [FEWEST]), (8, [8]), (9, [8]), (8 + FEWEST, [8, FEWEST])):
            self.asked.clear()
            answers_together(every[:count])
            self.assertEqual(self.asked, asked)

    def test_copies_take_no_lane(self) -> None:
        """Whoever sends one thing many times has it looked at once."""
        answers_together([signed(number % FEWEST) for number in range(20)])
        self.assertEqual(self.asked, [FEWEST])

    def test_nothing_is_loaded_for_few(self) -> None:
        """A wallet that checks one payment does not wait for a library that it will not use."""
        self.patch(lanes, "are_here", self.fail)
        self.assertEqual(answers_together([signed(number) for number in range(FEWEST - 1)]), [True] * (FEWEST - 1))

    def test_what_is_not_plain_is_not_asked_about(self) -> None:
        """It takes nobody's lane."""
        every = [*map(signed, range(8)), *edges()[:3], with_order(signed(1))]
        self.assertEqual(answers_together(every), [True] * 8 + [False] * 4)
        self.assertEqual(self.asked, [8])

    def test_nothing_is_kept(self) -> None:
        """Afterwards each signature is looked at as before, also if something went wrong within."""
        every = [(key, b"others", signature) for key, _, signature in map(signed, range(4))]
        with self.assertRaises(RuntimeError), checked_together(every):
            self.assertEqual(answers(every), [True] * 4)
            with checked_together(every):
                self.assertEqual(answers(every), [True] * 4)
            self.assertEqual(answers(every), [True] * 4)
            raise RuntimeError
        self.assertEqual((answers(every), keys._held), ([False] * 4, set()))


class Library(SynchronousTestCase):
    def test_one_that_does_not_tell_them_apart_is_not_used(self) -> None:
        """It says yes to all, no to all, or has its lanes in another order."""
        for status in (0, 0x11111111, 0x80):
            self.assertFalse(lanes._works(lambda *_, status=status: status))

    def test_what_is_missing_is_named(self) -> None:
        """Another processor, a package that is not there, a file that cannot be loaded: a reason, and no error."""
        def gone(name: str) -> Any:
            raise lanes.PackageNotFoundError(name)

        def broken(name: str) -> Any:
            raise OSError("no such file")

        for change, reason in (
            (("distribution", gone), "intel-cmplr-lib-rt is not installed"
             " (it is among timeproto[fast], for Linux on x86-64)"),
            (("_path", lambda *_: broken("")), "the library for more cannot be used: no such file"),
        ):
            patched = self.patch(lanes, *change)
            self.assertEqual(lanes._library.__wrapped__(), (None, reason))
            patched.restore()

    def test_a_list_of_files_that_is_none(self) -> None:
        """Half written, or of something else: a reason, and no error."""
        root = Path(self.mktemp())
        for package in (lanes.COMPANY_PACKAGE, lanes.PACKAGE):
            (root / f"{package.replace('-', '_')}-1.dist-info").mkdir(parents=True)
        record = root / f"{lanes.COMPANY_PACKAGE.replace('-', '_')}-1.dist-info" / "RECORD"
        self.patch(sys, "path", [str(root), *sys.path])
        lists = b"", b"\xff\xfe\x00", b"a,b,c,d\n", b"libintlc.so.5,,12q\n", bytes(200_000), b"libintlc.so.5,,12\n"
        for content in lists:
            record.write_bytes(content)
            check, why_not = lanes._library.__wrapped__()
            self.assertIsNone(check)
            self.assertTrue(why_not.startswith("the library for more cannot be used: "), why_not)

    def test_a_library_that_was_cut_off_is_not_loaded(self) -> None:
        """The process would not survive it: its size must be the one in the list of files."""
        root = Path(self.mktemp())
        (root / "some_package-1.dist-info").mkdir(parents=True)
        (root / "some.so").write_bytes(bytes(11))
        self.patch(sys, "path", [str(root), *sys.path])
        for size, is_whole in (("11", True), ("12", False), ("", False)):
            (root / "some_package-1.dist-info" / "RECORD").write_text(f"some.so,,{size}\n", "utf-8")
            if is_whole:
                self.assertEqual(lanes._path("some-package", "some.so"), str(root / "some.so"))
            else:
                with self.assertRaisesRegex(OSError, "has not the size"):
                    lanes._path("some-package", "some.so")

    def test_each_lane_answers_for_itself(self) -> None:
        """On a processor that has them: one to eight signatures, and whichever is wrong."""
        if not lanes.are_here():
            raise SkipTest(lanes.account())
        for count in range(1, LANES + 1):
            whole = [signed(number, bytes([number]) * number) for number in range(count)]
            self.assertEqual(lanes.hold(whole), [True] * count)
            for lane, (key, message, signature) in enumerate(whole):
                wrong = [*whole[:lane], (key, message + b"!", signature), *whole[lane + 1 :]]
                self.assertEqual(lanes.hold(wrong), [at != lane for at in range(count)])
