"""``timeproto wallet`` in surroundings that are against it: output that nobody takes, and input that is no text."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster import COIN, address
from tests.test_cli.command import NODE, PASSWORD, PHRASE, CommandCase
from timeproto.cli import main, wallet_setting
from timeproto.wallet import hd, keystore
from timeproto.wallet.watching import REFUSED


class Takes(io.StringIO):
    """A standard output that takes so many writes, and then fails so."""

    def __init__(self, writes: int, error: OSError) -> None:
        super().__init__()
        self._left = writes
        self._error = error

    def write(self, text: str) -> int:
        if text != "\n":  # print writes the end of its line by itself
            self._left -= 1
        if self._left < 0:
            raise self._error
        return super().write(text)


def gone(after: int) -> Takes:
    """A pipe whose reader has left."""
    return Takes(after, BrokenPipeError(32, "Broken pipe"))


def full(after: int = 0) -> Takes:
    """A file on a disk without room."""
    return Takes(after, OSError(28, "No space left on device"))


class Unheard(CommandCase):
    """Nobody takes what a command has to say."""

    def paid(self, *coins: int) -> list[Any]:
        """One payment to us a second, with these coins of the giver."""
        return [lambda coin=coin: self.fund(hd.derive(PHRASE), COIN, coin=coin) and None for coin in coins]

    def test_a_watch_whose_reader_has_gone(self) -> None:
        """Ends with the first line that nobody takes, though a watch's listeners may raise what they want."""
        self.restored()
        for how in ((), ("--json",)):
            self.meanwhile = [lambda: None, *self.paid(1, 2)]
            out = gone(after=1)
            status, said, err = self.call("watch", *how, out=out)
            self.assertEqual((status, said.count("\n"), err), (141, 1, ""))
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_watch_whose_very_first_line_nobody_takes(self) -> None:
        """What is told while the watch is still being set up ends it too."""
        self.restored()
        self.assertEqual(self.call("watch", out=gone(after=0)), (141, "", ""))

    def test_a_node_that_refuses_the_watch_for_now(self) -> None:
        """What it waits for is said on standard error; taken up later it goes on."""
        self.restored()
        busy = ["with all there is to ask for", "alone"]

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed" and self.opened and busy:
                busy.pop()
                return {"type": "Error", "id": message["id"], "code": "busy", "message": "the node is starting"}
            self.opened += message["type"] == "UTXOSubscribed"
            return message

        self.opened = 0
        self.world.bend = bend
        self.meanwhile = [lambda: self.world.run(REFUSED + 5), *self.paid(1)]
        status, said, err = self.call("watch", "--count", "1")
        self.assertEqual((status, said.count("\n")), (0, 1))
        self.assertIn("was refused: busy: the node is starting", err)

    def test_a_reader_that_goes_while_nothing_happens(self) -> None:
        """Is noticed without a change to tell: there may be none for hours."""
        self.restored()
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        out = Takes(100, OSError())
        self.patch(out, "fileno", lambda: writer)
        self.meanwhile = [lambda: None, lambda: os.close(reader)]
        status, said, err = self.call("watch", out=out)
        self.assertEqual((status, said.count("\n"), err), (141, 1, ""))
        self.assertEqual(self.meanwhile, [])

    def test_a_hint_that_nobody_takes(self) -> None:
        """A payment on its way is told by another listener, which ends the command likewise."""
        self.restored()
        output = {"amount": COIN, "address": address(hd.derive(PHRASE))}
        word = {"type": "TransactionStatus", "txid": "ab" * 32, "status": "seen"}
        self.meanwhile = [lambda: None, lambda: self.world.say(word | {"outputs": [{"vout": 0, "output": output}]})]
        self.assertEqual(self.call("watch", out=gone(after=1))[0], 141)

    def test_a_watch_into_a_full_disk(self) -> None:
        """A sentence and the status of storage, not a file that silently grows no more."""
        self.restored()
        self.meanwhile = [lambda: None, *self.paid(1)]
        status, _, err = self.call("watch", out=full(after=1))
        self.assertEqual((status, err), (3, "timeproto: standard output cannot be written: No space left on device\n"))

    def test_a_payment_whose_reader_has_gone(self) -> None:
        """Ends at once; the payment goes on, stays in the file while it is not decided, and is taken up again."""
        self.restored()
        to = address(self.world.node.wallets[0])

        honest = self.world.bend
        for after in (0, 1):
            before = self.json("balance")["total"]
            self.world.bend = lambda message: None if message["type"] == "UTXOStateNotification" else message
            status, out, err = self.call("send", to, "1", out=gone(after))
            self.assertEqual((status, out.count("\n")), (141, 2 * after))
            self.assertEqual(self.flushLoggedErrors(), [])
            (left,) = keystore.WalletFile.open(self.file, PASSWORD).pending
            self.assertIn("1 of this wallet's payments are not decided yet", err)
            self.world.bend = honest
            self.assertEqual(self.json("balance")["total"], before - COIN - 1_000)
            self.assertEqual(keystore.WalletFile.open(self.file, PASSWORD).pending, ())
            self.assertIsNotNone(self.world.node.store.transaction(left.txid))

    def test_no_wallet_whose_phrase_nobody_saw(self) -> None:
        """Reader gone, disk full, no standard output at all: the file is removed again, and a sentence says so."""
        new = ("new", "--genesis", str(self.genesis))
        for how in ((), ("--json",)):
            for out, status in ((gone(0), 141), (full(), 3)):
                found, said, err = self.call(*new, *how, out=out)
                self.assertEqual((found, said), (status, ""))
                self.assertIn("the phrase could not be shown", err)
                self.assertIn(f"{self.file} was removed again", err)
                self.assertEqual(err.count("\n"), 1)
                self.assertFalse(self.file.exists())
        self.assertEqual(self.call(*new)[0], 0)

    def test_a_wallet_that_cannot_even_be_removed(self) -> None:
        """Is named, so that it can be removed by hand."""

        def refuse(path: Path, missing_ok: bool = False) -> None:
            raise OSError(30, "Read-only file system")

        self.patch(Path, "unlink", refuse)
        status, _, err = self.call("new", "--genesis", str(self.genesis), out=full())
        self.assertEqual(status, 3)
        self.assertIn(f"remove the new wallet {self.file} by hand (Read-only file system)", err)

    def test_what_is_left_at_exit(self) -> None:
        """A true process with a pipe that nobody reads, and one without standard output: no word but our own."""
        program = "import sys; from timeproto.cli.main import main; sys.exit(main())"
        argv = [sys.executable, "-c", program, "wallet", "--wallet", str(self.file), "new", "--genesis"]
        more: Any = {"stderr": subprocess.PIPE, "text": True, "check": False, "env": dict(os.environ)}
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        done = subprocess.run([*argv, str(self.genesis)], stdout=writer, **more)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (141, 1), done.stderr)
        self.assertFalse(self.file.exists())
        shell = ["sh", "-c", '"$@" >&-', "sh", *argv, str(self.genesis)]
        done = subprocess.run(shell, **more)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (3, 1), done.stderr)
        self.assertFalse(self.file.exists())


class Unreadable(CommandCase):
    """Paths, passwords and phrases that are none."""

    def test_homes_there_are_none_of(self) -> None:
        """``~nosuchuser`` in any path: a sentence before anything is asked or made."""
        self.restored()
        nowhere = "~nosuchuser/x"
        connections = self.world.connections
        self.refused(2, "balance", "--wallet", nowhere, words="~nosuchuser")
        self.refused(2, "new", "--wallet", nowhere, words="~nosuchuser")
        self.refused(2, "proof", "ab" * 32, "--out", nowhere, words="~nosuchuser")
        self.refused(2, "balance", "--password-file", nowhere, words="~nosuchuser")
        self.assertEqual(self.world.connections, connections)

    def test_a_password_that_is_no_text(self) -> None:
        """From the environment: bytes that are no UTF-8."""
        self.restored()
        os.environ["TIMEPROTO_WALLET_PASSWORD"] = "\udcff"
        self.refused(2, "balance", words="TIMEPROTO_WALLET_PASSWORD is not text")

    def test_a_phrase_that_is_no_text(self) -> None:
        """On a standard input that is strict about it."""
        strict = io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8", errors="strict")
        self.refused(2, "restore", "--genesis", str(self.genesis), stdin=strict, words="phrase")
        self.assertFalse(self.file.exists())

    def test_ctrl_d_at_a_question(self) -> None:
        """Neither a password nor a phrase was given, and that is said; nor is what is typed always text."""
        self.restored()
        del os.environ["TIMEPROTO_WALLET_PASSWORD"]
        terminal = io.StringIO()
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        for error in (EOFError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")):

            def ends(prompt: str, error: Exception = error) -> str:
                raise error

            self.patch(wallet_setting.getpass, "getpass", ends)
            for command, what in (("balance", "password"), ("restore", "phrase")):
                status, out, err = self.call(command, stdin=terminal)
                self.assertEqual((status, out), (2, ""))
                self.assertRegex(err, rf"\A\n?timeproto: (no|the) {what}.*\n\Z")  # first the end of the prompt's line

    def test_a_ca_that_is_none(self) -> None:
        """A file that is not PEM is named at once."""
        self.restored()
        self.refused(2, "balance", "--ca", str(self.genesis), words=f"the CA certificate {self.genesis}")

    def test_a_path_that_is_no_text(self) -> None:
        """Is made, opened and spelled out on a standard output that takes only what it has letters for."""
        self.file = self.folder / "\udcff\x1b[2J.json"
        raw = io.BytesIO()
        strict = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
        self.patch(sys, "stdout", strict)
        argv = ["wallet", "--wallet", str(self.file), "--node", NODE]
        self.assertEqual(main.main([*argv, "new", "--genesis", str(self.genesis)]), 0)
        self.assertIn(rb"/\udcff\x1b[2J.json", raw.getvalue())
        raw.truncate(0)
        self.assertEqual(main.main([*argv, "balance", "--json"]), 0)
        self.assertEqual(json.loads(raw.getvalue().strip(b"\x00"))["total"], 0)
        self.refused(2, "new", words=r"\udcff\x1b[2J.json already")
