"""The console script: each way of failing has its status and its one sentence."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from timeproto import __version__
from timeproto.cli import main as module
from timeproto.errors import ConfigurationError, ErrorCode, IdentityConflict, Refusal, StorageError


class Main(SynchronousTestCase):
    def setUp(self) -> None:
        self.outcome: Any = 0
        command = ModuleType("timeproto.cli.pretend")

        def run(arguments: argparse.Namespace) -> int:
            if isinstance(self.outcome, BaseException):
                raise self.outcome
            return self.outcome if arguments.loud is None else int(arguments.loud)

        def add_parser(subparsers: Any) -> None:
            parser = subparsers.add_parser("pretend")
            parser.add_argument("--loud", type=int)
            parser.set_defaults(run=run)

        command.__dict__["add_parser"] = add_parser
        self.patch(module, "COMMANDS", ("pretend",))
        sys.modules[command.__name__] = command
        self.addCleanup(sys.modules.pop, command.__name__)

    def call(self, *argv: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = module.main(argv)
            except SystemExit as ended:
                status = int(ended.code or 0)
        return status, out.getvalue(), err.getvalue()

    def test_a_commands_own_status(self) -> None:
        """What the command returns is what the shell gets."""
        self.assertEqual(self.call("pretend"), (0, "", ""))
        self.assertEqual(self.call("pretend", "--loud", "1"), (1, "", ""))

    def test_every_failure_has_its_status(self) -> None:
        """One plain sentence on stderr, nothing on stdout, no traceback."""
        table = [
            (Refusal(ErrorCode.DOUBLE_SPEND, "the coin is taken"), 1, "timeproto: the coin is taken (double_spend)\n"),
            (ConfigurationError("the port is in use"), 2, "timeproto: the port is in use\n"),
            (StorageError("the disk is full"), 3, "timeproto: the disk is full\n"),
            (IdentityConflict("somebody else signs"), 4, "timeproto: somebody else signs\n"),
            (KeyboardInterrupt(), 130, ""),
        ]
        for self.outcome, status, said in table:
            self.assertEqual(self.call("pretend"), (status, "", said))

    def test_a_bug_is_not_hidden(self) -> None:
        """What nobody mapped keeps its traceback."""
        self.outcome = ZeroDivisionError()
        self.assertRaises(ZeroDivisionError, self.call, "pretend")

    def test_output_that_cannot_be_written(self) -> None:
        """One sentence and status 3, wherever the output goes over: in the middle, at the end, in the help."""
        pretended = "import sys, timeproto.cli.main as m, timeproto.cli.vectors as v; v.run = lambda _: "
        for run, argv in (("print('x' * 100_000)", ["vectors", "address", "-"]),
                          ("print('x') or 0", ["vectors", "address", "-"]),
                          ("0", ["--help"])):
            code = f"{pretended}{run}; sys.exit(m.main())"
            with open("/dev/full", "wb") as full:
                ended = subprocess.run([sys.executable, "-c", code, *argv], stdout=full, stderr=subprocess.PIPE,
                                       env={**os.environ, "PYTHONUNBUFFERED": ""}, text=True, check=False)
            self.assertEqual((ended.returncode, ended.stderr),
                             (3, "timeproto: standard output cannot be written: No space left on device\n"))

    def test_another_error_of_the_system_is_a_bug(self) -> None:
        """A command says itself which file it misses; if it does not, the traceback stays."""
        self.outcome = FileNotFoundError(2, "No such file or directory")
        self.assertRaises(FileNotFoundError, self.call, "pretend")

    def test_somebody_elses_words_are_one_harmless_line(self) -> None:
        """What a node answered cannot write escapes or further lines to the terminal."""
        self.outcome = Refusal(ErrorCode.BUSY, "later\n\x1b[2Jtimeproto: all is well\u202e")
        _, _, said = self.call("pretend")
        self.assertEqual(said.count("\n"), 1)
        self.assertTrue(said.rstrip("\n").isprintable())

    def test_command_lines_that_are_wrong(self) -> None:
        """No command, an unknown one, an unknown option, a wrong value: status 2 and how to do it."""
        for argv in ((), ("nothing",), ("pretend", "--nothing"), ("pretend", "--loud", "x"), ("--nothing",)):
            status, out, said = self.call(*argv)
            self.assertEqual((status, out), (2, ""), argv)
            self.assertIn("usage: timeproto", said)

    def test_help_and_version(self) -> None:
        """Both are fine, and go to stdout."""
        self.assertEqual(self.call("--version"), (0, f"timeproto {__version__}\n", ""))
        status, out, _ = self.call("--help")
        self.assertEqual(status, 0)
        self.assertIn("0 fine, 1 refused, 2 configuration, 3 storage, 4 identity conflict", " ".join(out.split()))


class AllCommands(SynchronousTestCase):
    def test_every_command_has_help(self) -> None:
        """Each one is there and explains itself."""
        parser = module.build_parser()
        for name in module.COMMANDS:
            out = io.StringIO()
            with contextlib.redirect_stdout(out), self.assertRaises(SystemExit) as ended:
                parser.parse_args([name, "--help"])
            self.assertEqual(ended.exception.code, 0)
            self.assertIn(f"usage: timeproto {name}", out.getvalue())

    def test_registration_is_light(self) -> None:
        """``timeproto --help`` loads no reactor, no store, no cryptography: those come when a command runs."""
        program = "import sys, timeproto.cli.main as m; m.build_parser(); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        heavy = {"twisted.internet", "rocksdict", "nacl", "cryptography", "msgspec", "slip10", "mnemonic", "treq"}
        self.assertEqual(heavy & set(done.stdout.split()), set())
