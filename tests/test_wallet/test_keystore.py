"""The wallet file: nothing in it is lost, nobody else reads it, and no damage to it is taken for money."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, GENESIS, PAYMENT, address, build, replace
from timeproto.errors import ConfigurationError, StorageError
from timeproto.model.transaction import Outpoint
from timeproto.params import COIN
from timeproto.wallet import keystore
from timeproto.wallet.keystore import MOST_MEMORY, MOST_OPS, WalletFile
from timeproto.wire import codec

PHRASE = "legal winner thank year wave sausage worth useful legal winner thank yellow"
PASSWORD = "correct horse"
FAST = {"opslimit": 1, "memlimit": 8_192}
"""Argon2id at its cheapest: these tests are about the file."""
OTHER = build([(Outpoint(GENESIS.hash, 1), ALICE)], [(COIN, address(BOB))])


class PowerCut(BaseException):
    """The machine stops here: no ``except Exception`` catches it."""


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "wallet.json"

    def create(self, password: str = PASSWORD) -> WalletFile:
        return WalletFile.create(self.path, PHRASE, password, GENESIS, **FAST)

    def refused(self, password: str = PASSWORD) -> str:
        """Opening fails in one sentence that names the file and tells nothing secret."""
        message = str(self.assertRaises(ConfigurationError, WalletFile.open, self.path, password))
        self.assertIn(self.path.name, message)
        self.assertNotIn("\n", message)
        self.assertNotIn(PASSWORD, message)
        self.assertNotIn("sausage", message)
        return message

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_bytes())
        return found

    def rewrite(self, **fields: Any) -> None:
        self.path.write_text(json.dumps(self.document() | fields))


class MakingAndOpening(Files):
    def test_opens_as_it_was_made(self) -> None:
        """Phrase, genesis, indices and payments come back."""
        made = self.create()
        made.reserve_receive_index()
        made.reserve_receive_index()
        made.reserve_change_index()
        made.add_pending(PAYMENT)
        found = WalletFile.open(self.path, PASSWORD)
        self.assertEqual(found.phrase, PHRASE)
        self.assertEqual(found.genesis, GENESIS)
        self.assertEqual((found.receive_index, found.change_index), (2, 1))
        self.assertEqual(found.pending, (PAYMENT,))

    def test_never_over_an_existing_file(self) -> None:
        """A file with somebody's money in it stays as it is."""
        self.create()
        before = self.path.read_bytes()
        error = self.assertRaises(
            ConfigurationError, WalletFile.create, self.path, "zoo " * 11 + "wrong", PASSWORD, GENESIS, **FAST
        )
        self.assertIn(str(self.path), str(error))
        self.assertEqual(self.path.read_bytes(), before)

    def test_only_for_its_owner(self) -> None:
        """Mode 0600 from the first to the last save, whatever the umask, and nothing left beside it."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        wallet = self.create()
        wallet.reserve_receive_index()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.folder), [self.path.name])

    def test_a_file_that_others_can_read_is_refused(self) -> None:
        """Any right of group or world, with the remedy in the sentence."""
        self.create()
        for mode in (0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o660, 0o666, 0o777):
            self.path.chmod(mode)
            self.assertIn("chmod 600", self.refused())
        self.path.chmod(0o600)
        self.assertEqual(WalletFile.open(self.path, PASSWORD).phrase, PHRASE)

    def test_no_secret_lies_in_the_open(self) -> None:
        """Neither phrase nor password is in the file, nor in what is printed of a wallet."""
        wallet = self.create()
        seen = self.path.read_text("utf-8") + repr(wallet) + str(wallet)
        for secret in (PHRASE, *PHRASE.split(), PHRASE.encode().hex(), PASSWORD):
            self.assertNotIn(secret, seen)

    def test_two_files_of_one_phrase_differ(self) -> None:
        """Salt and nonce are new each time: equal wallets do not look equal."""
        self.create()
        first = self.document()
        self.path.unlink()
        self.create()
        second = self.document()
        self.assertNotEqual(first["kdf"]["salt"], second["kdf"]["salt"])
        self.assertNotEqual(first["nonce"], second["nonce"])
        self.assertNotEqual(first["sealed"], second["sealed"])

    def test_any_password_is_a_password(self) -> None:
        """Empty, long, with a zero byte, in any script: it opens with exactly that one."""
        passwords = ["", " ", "x" * 10_000, "a\x00b", "пароль 🔑"]
        for at, password in enumerate(passwords):
            self.create(password)
            self.assertEqual(WalletFile.open(self.path, password).phrase, PHRASE)
            self.assertIn("password does not open", self.refused(passwords[at - 1]))
            self.path.unlink()

    def test_a_missing_file(self) -> None:
        """No file, and a folder in its place, are each one sentence."""
        self.refused()
        self.path.mkdir(mode=0o700)
        self.refused()


class DamagedAndHostile(Files):
    def test_the_wrong_password(self) -> None:
        """It says so, and the file is untouched."""
        self.create()
        before = self.path.read_bytes()
        for wrong in ("", PASSWORD + " ", PASSWORD.upper()):
            self.assertIn("password does not open", self.refused(wrong))
        self.assertEqual(self.path.read_bytes(), before)

    def test_an_unknown_version(self) -> None:
        """A file of a later version is refused, not guessed at."""
        self.create()
        for version in (0, 2, "1", None):
            self.rewrite(version=version)
            self.assertIn("version", self.refused())

    def test_a_file_cannot_ask_for_the_whole_machine(self) -> None:
        """Parameters past the bounds are refused before a single byte of memory is taken for them."""
        self.create()
        kdf = self.document()["kdf"]
        with mock.patch("timeproto.wallet.keystore.argon2id.kdf", side_effect=AssertionError("derived")):
            for changed in (
                {"memlimit": MOST_MEMORY + 1},
                {"memlimit": 2**62},
                {"memlimit": 0},
                {"memlimit": -1},
                {"opslimit": MOST_OPS + 1},
                {"opslimit": 2**62},
                {"opslimit": 0},
                {"name": "scrypt"},
                {"salt": ""},
                {"salt": "00" * 64},
                {"salt": "zz" * 16},
            ):
                self.rewrite(kdf=kdf | changed)
                self.refused()
        self.assertEqual((MOST_MEMORY, MOST_OPS), (2**30, 20))

    def test_every_missing_and_every_unknown_field(self) -> None:
        """All fields are required and no others."""
        self.create()
        whole = self.document()
        for name in whole:
            self.path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
            self.assertIn(name, self.refused())
        self.rewrite(**whole, more=1)
        self.assertIn("more", self.refused())

    def test_another_genesis_is_not_slipped_under(self) -> None:
        """A wallet stays on the network it was made for: the seal covers the genesis."""
        self.create()
        other = replace(GENESIS, timestamp=1)
        changed = json.loads(json.dumps(self.document()["genesis"])) | {"timestamp": 1}
        self.rewrite(genesis=changed)
        self.assertIn("genesis", self.refused())
        self.rewrite(genesis=changed, genesis_hash=other.hash)
        self.assertIn("password does not open", self.refused())

    def test_nothing_of_the_seal_can_be_exchanged(self) -> None:
        """Salt, nonce, parameters and sealed bytes: any change of one is a file that does not open."""
        self.create()
        whole = self.document()
        kdf = whole["kdf"]
        for fields in (
            {"kdf": kdf | {"salt": "00" * 16}},
            {"kdf": kdf | {"opslimit": 2}},
            {"kdf": kdf | {"memlimit": 16_384}},
            {"nonce": "00" * 24},
            {"sealed": whole["sealed"][:-2]},
            {"sealed": whole["sealed"][:32]},
            {"sealed": whole["sealed"] + "00"},
            {"sealed": "00" * (len(whole["sealed"]) // 2)},
        ):
            self.rewrite(**(whole | fields))
            self.assertIn("password does not open", self.refused())
        self.rewrite(**whole)
        self.assertEqual(WalletFile.open(self.path, PASSWORD).phrase, PHRASE)

    def test_indices_and_payments_are_sealed_too(self) -> None:
        """Nobody without the password makes a wallet hand out an address twice, or forget or invent a payment."""
        wallet = self.create()
        wallet.reserve_receive_index()
        wallet.reserve_change_index()
        wallet.add_pending(PAYMENT)
        whole = self.document()
        for fields in (
            {"receive": 0},
            {"receive": 2},
            {"change": 0},
            {"pending": []},
            {"pending": whole["pending"] * 2},
            {"pending": [json.loads(codec.encode(OTHER))]},
        ):
            self.rewrite(**(whole | fields))
            self.assertIn("password does not open", self.refused())

    def test_a_seal_shorter_than_its_tag(self) -> None:
        """Is damage like any other, not an error of the library's."""
        self.create()
        sealed = self.document()["sealed"]
        for length in range(0, 32, 2):
            self.rewrite(sealed=sealed[:length])
            self.assertIn("sealed", self.refused())

    def test_torn_at_every_length(self) -> None:
        """A file cut off anywhere before its last brace is damaged, and says so."""
        self.create()
        whole = self.path.read_bytes()
        for length in range(len(whole.rstrip())):
            self.path.write_bytes(whole[:length])
            self.refused()

    def test_a_file_too_large_to_be_ours(self) -> None:
        """A hole of a terabyte is refused without being read."""
        self.create()
        os.truncate(self.path, 2**40)
        self.refused()

    @settings(max_examples=300)
    @given(st.data())
    def test_any_damage_is_a_sentence_or_harmless(self, data: st.DataObject) -> None:
        """Bytes flipped anywhere: the file is refused, or it opens with the same phrase on the same network."""
        if not self.path.exists():
            wallet = self.create()
            wallet.add_pending(PAYMENT)
            wallet.reserve_receive_index()
            shutil.copy(self.path, self.path.with_suffix(".good"))
        damaged = bytearray(self.path.with_suffix(".good").read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(damaged) - 1))
            damaged[at] = data.draw(st.integers(0, 255))
        self.path.write_bytes(bytes(damaged))
        try:
            found = WalletFile.open(self.path, PASSWORD)
        except ConfigurationError:
            return
        self.assertEqual((found.phrase, found.genesis), (PHRASE, GENESIS))
        self.assertEqual((found.receive_index, found.change_index, found.pending), (1, 0, (PAYMENT,)))


class Saving(Files):
    def test_every_change_is_on_the_disk_when_it_returns(self) -> None:
        """Whoever opens the file after a call sees what the call did."""
        wallet = self.create()

        def found() -> tuple[int, int, list[str]]:
            other = WalletFile.open(self.path, PASSWORD)
            return other.receive_index, other.change_index, [tx.txid for tx in other.pending]

        self.assertEqual(wallet.reserve_receive_index(), 0)
        self.assertEqual(found(), (1, 0, []))
        self.assertEqual(wallet.reserve_receive_index(), 1)
        self.assertEqual(wallet.reserve_change_index(), 0)
        self.assertEqual(found(), (2, 1, []))
        wallet.add_pending(PAYMENT)
        wallet.add_pending(OTHER)
        self.assertEqual(found(), (2, 1, [PAYMENT.txid, OTHER.txid]))
        wallet.remove_pending(PAYMENT.txid)
        self.assertEqual(found(), (2, 1, [OTHER.txid]))
        self.assertEqual((wallet.receive_index, wallet.change_index, wallet.pending), (2, 1, (OTHER,)))

    def test_never_more_than_can_be_opened_again(self) -> None:
        """A file past the size that is read would lock its owner out: the change is refused, the file stays."""
        wallet = self.create()
        size = self.path.stat().st_size
        with mock.patch("timeproto.wallet.keystore.MOST_SIZE", size + 100):
            self.assertRaises(ConfigurationError, wallet.add_pending, PAYMENT)
            self.assertEqual(wallet.pending, ())
            self.assertEqual(WalletFile.open(self.path, PASSWORD).pending, ())
            self.assertEqual(os.listdir(self.folder), [self.path.name])

    def test_two_who_make_one_file(self) -> None:
        """The second is refused, also if it looked before the first had written: a phrase is never lost."""
        with mock.patch.object(Path, "exists", return_value=False):
            self.create()
            before = self.path.read_bytes()
            self.assertRaises(ConfigurationError, self.create)
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(os.listdir(self.folder), [self.path.name])

    def test_removing_what_is_not_there(self) -> None:
        """Changes nothing and writes nothing."""
        wallet = self.create()
        before = self.path.stat().st_ino
        wallet.remove_pending(PAYMENT.txid)
        self.assertEqual(self.path.stat().st_ino, before)

    def test_synced_before_it_is_in_place_and_the_folder_after(self) -> None:
        """The order that survives a power cut: the new file's bytes, its name, the folder."""
        wallet = self.create()
        steps: list[str] = []
        sync, move = os.fsync, os.replace

        def fsync(descriptor: int) -> None:
            steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            sync(descriptor)

        def rename(source: str, target: str) -> None:
            steps.append("rename")
            move(source, target)

        with mock.patch("os.fsync", fsync), mock.patch("os.replace", rename):
            wallet.reserve_receive_index()
        self.assertEqual(steps, ["file", "rename", "folder"])

    def test_cut_off_at_any_step(self) -> None:
        """A save that stops anywhere leaves a whole file, the old one or the new one, and hands out no index."""
        wallet = self.create()
        for step in ("tempfile.mkstemp", "os.fdopen", "os.fsync", "os.replace"):
            for error in (PowerCut(), OSError(28, "No space left on device")):
                with mock.patch(step, side_effect=error):
                    wanted = StorageError if isinstance(error, OSError) else PowerCut
                    self.assertRaises(wanted, wallet.reserve_receive_index)
                found = WalletFile.open(self.path, PASSWORD)
                self.assertEqual((found.phrase, found.receive_index, wallet.receive_index), (PHRASE, 0, 0), step)
                self.assertEqual(os.listdir(self.folder), [self.path.name], step)
        self.assertEqual(wallet.reserve_receive_index(), 0)

    def test_a_kill_at_any_moment(self) -> None:
        """Killed while it saves as fast as it can: every index that was told is in the file that is left."""
        self.create()
        program = (
            "import sys; from pathlib import Path; from timeproto.wallet.keystore import WalletFile\n"
            "wallet = WalletFile.open(Path(sys.argv[1]), sys.argv[2])\n"
            "while True: print(wallet.reserve_receive_index(), flush=True)\n"
        )
        told = 0
        for lines in (1, 4, 9):
            with subprocess.Popen(
                [sys.executable, "-c", program, str(self.path.absolute()), PASSWORD],
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parent.parent.parent,
            ) as child:
                assert child.stdout is not None
                for _ in range(lines):
                    child.stdout.readline()
                child.kill()
                rest = child.stdout.read().split(b"\n")[:-1]  # a last line without its end was not told
                told += lines + len(rest)
            found = WalletFile.open(self.path, PASSWORD)
            self.assertGreaterEqual(found.receive_index, told)
            self.assertLessEqual(found.receive_index, told + 1)
            told = found.receive_index
            self.assertEqual(found.phrase, PHRASE)


class Shared(Files):
    """One file, several processes: ``watch`` in one window, ``send`` and ``address`` in others."""

    def test_nobody_undoes_what_another_did(self) -> None:
        """Each change is made to the file as it is, not as it was when this process read it."""
        self.create()
        first, second = (WalletFile.open(self.path, PASSWORD) for _ in range(2))
        self.assertEqual(second.reserve_receive_index(), 0)
        second.add_pending(PAYMENT)
        self.assertEqual(first.reserve_change_index(), 0)
        first.add_pending(OTHER)
        second.remove_pending(OTHER.txid)
        self.assertEqual([wallet.reserve_receive_index() for wallet in (first, second, first)], [1, 2, 3])
        found = WalletFile.open(self.path, PASSWORD)
        self.assertEqual((found.receive_index, found.change_index, found.pending), (4, 1, (PAYMENT,)))
        self.assertEqual(os.listdir(self.folder), [self.path.name])

    def test_many_at_the_same_moment(self) -> None:
        """Three processes hand out addresses as fast as they can: no index twice, none left out, none forgotten."""
        self.create()
        program = (
            "import sys; from pathlib import Path; from timeproto.wallet.keystore import WalletFile\n"
            "wallet = WalletFile.open(Path(sys.argv[1]), sys.argv[2])\n"
            "for _ in range(30): print(wallet.reserve_receive_index())\n"
        )
        command = [sys.executable, "-c", program, str(self.path.absolute()), PASSWORD]
        root = Path(__file__).parent.parent.parent
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(3)]
        told = [int(line) for child in children for line in child.communicate()[0].split()]
        self.assertEqual([child.returncode for child in children], [0, 0, 0])
        self.assertEqual(sorted(told), list(range(90)))
        self.assertEqual(WalletFile.open(self.path, PASSWORD).receive_index, 90)

    def test_saves_that_come_too_soon_to_be_told_apart_by_their_times(self) -> None:
        """The number of the file that was seen is given to no later one."""
        self.patch(keystore, "_mark", lambda found: (found.st_ino,))
        wallet = self.create()
        other = WalletFile.open(self.path, PASSWORD)
        for count in range(1, 9):
            self.assertEqual(other.reserve_receive_index(), count - 1)
            if count % 2 == 0:  # the second one could have the first one's number
                wallet.look()
                self.assertEqual(wallet.receive_index, count)

    def test_a_program_that_keeps_it_locked(self) -> None:
        """It is waited for, for some seconds, and once in a while; then it is an error, and later all is well."""
        wallet, now, slept = self.create(), [100.0], list[float]()

        def sleep(seconds: float) -> None:
            now[0] += seconds
            slept.append(now[0])

        self.patch(keystore, "time", mock.Mock(monotonic=lambda: now[0], sleep=sleep))
        with self.path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            for _ in range(3):
                error = self.assertRaises(StorageError, wallet.reserve_receive_index)
                self.assertIn("is kept locked by another program", str(error))
            self.assertAlmostEqual(slept[-1], 100 + keystore.LOCKED, places=1)
            for _ in range(4):
                self.assertRaises(StorageError, wallet.reserve_receive_index)
                now[0] += keystore.LOCKED_OUT / 4
            self.assertRaises(StorageError, wallet.reserve_receive_index)
            self.assertAlmostEqual(slept[-1], 100 + 2 * keystore.LOCKED + keystore.LOCKED_OUT, places=1)
        self.assertEqual(wallet.reserve_receive_index(), 0)

    def test_another_wallet_in_its_place(self) -> None:
        """A file that our key does not open is not written over, and nothing is handed out of it."""
        wallet = self.create()
        self.path.rename(self.folder / "old.json")
        self.create("another password")
        before = self.path.read_bytes()
        self.assertIn(self.path.name, str(self.assertRaises(ConfigurationError, wallet.reserve_receive_index)))
        self.assertEqual(self.path.read_bytes(), before)

    def test_a_file_that_is_gone(self) -> None:
        """Moved away under us: an error, not a second wallet that nobody knows of."""
        wallet = self.create()
        self.path.rename(self.folder / "old.json")
        self.assertRaises(StorageError, wallet.add_pending, PAYMENT)
        self.assertEqual((wallet.pending, os.listdir(self.folder)), ((), ["old.json"]))


class NoRoom(Files):
    def test_a_place_that_takes_no_file(self) -> None:
        """Making one where none can be, and saving on a full disk: a storage error in one sentence, nothing left."""
        self.path = self.folder / "no" / "wallet.json"
        error = self.assertRaises(StorageError, self.create)
        self.assertIn(str(self.path), str(error))
        self.assertNotIn("\n", str(error))
        self.path = self.folder / "wallet.json"
        with mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")):
            self.assertRaises(StorageError, self.create)
        self.assertEqual(os.listdir(self.folder), [])

    def test_made_with_what_was_handed_out_before(self) -> None:
        """A restored wallet is written once, with all that was found."""
        WalletFile.create(self.path, PHRASE, PASSWORD, GENESIS, receive=8, change=3, **FAST)
        found = WalletFile.open(self.path, PASSWORD)
        self.assertEqual((found.receive_index, found.change_index, found.pending), (8, 3, ()))
