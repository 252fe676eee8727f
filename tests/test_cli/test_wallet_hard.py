"""``timeproto wallet`` in surroundings that are against it: output that nobody takes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.test_cli.command import NODE, CommandCase
from timeproto.cli import main


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


class Spelled(CommandCase):
    """What standard output has no letters for."""

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
