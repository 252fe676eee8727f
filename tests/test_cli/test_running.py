"""Ctrl-C, and output that nobody reads: whatever a command is in the midst of, it ends in order."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from timeproto.cli import admin, terminal
from timeproto.errors import StorageError
from timeproto.masternode.desk import Answer

COMMAND = """
import os, signal
from twisted.internet.defer import Deferred
from timeproto.cli.running import run_until_done

async def main(reactor):
    reactor.callLater(0, os.kill, os.getpid(), signal.SIGINT)
    {again}
    try:
        await Deferred()
    except BaseException as why:
        print(type(why).__name__, flush=True)
        {then}
    return 0

try:
    print(run_until_done(main))
except KeyboardInterrupt:
    print("interrupted")
"""

DEMO = """
import os, signal
from twisted.internet.task import deferLater
from timeproto.cli import demo
from timeproto.cli.main import main
from timeproto.devnet.processes import Devnet

class Story:
    def __init__(self, reactor, devnet):
        pass

    async def tell(self):
        return 0

async def stop(self):
    os.kill(os.getpid(), signal.SIGINT)
    await deferLater(self._reactor, 0.1)

demo._Story, Devnet.stop = Story, stop
print(main(["demo", "-n", "1"]))
"""


FASTER = """
import os, signal
from twisted.internet.defer import Deferred
from timeproto.cli.main import main
from timeproto.devnet.processes import Devnet

async def start(self):
    await Deferred()

async def stop(self):
    pass

def while_all_run(self, work):
    outcome = Deferred(lambda _: work.cancel())

    def die():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        outcome.errback(ValueError("a masternode ended"))

    self._reactor.callLater(0, die)
    return outcome

Devnet.start, Devnet.stop, Devnet.while_all_run = start, stop, while_all_run
print(main(["devnet", "-n", "1"]))
"""


class Interrupted(SynchronousTestCase):
    def run_with(self, then: str = "raise", again: str = "pass") -> list[str]:
        code = COMMAND.format(then=then, again=again)
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        return ended.stdout.split()

    def test_it_is_called_off(self) -> None:
        """It hears of it and tidies up, and whatever that comes to, Ctrl-C is what ended it."""
        for then in ("raise", "pass", "raise ValueError", "reactor.stop()"):
            self.assertEqual(self.run_with(then), ["CancelledError", "interrupted"])

    def test_a_second_time(self) -> None:
        """Waits for nothing more."""
        again = "reactor.callLater(0.1, os.kill, os.getpid(), signal.SIGINT)"
        self.assertEqual(self.run_with("await Deferred()", again), ["CancelledError", "interrupted"])

    def test_while_a_demo_stops_its_nodes(self) -> None:
        """Its story is told by then, and Ctrl-C is what ended it all the same."""
        ended = subprocess.run([sys.executable, "-c", DEMO], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((ended.stdout.splitlines()[-1], ended.stderr), ("130", ""))

    def test_a_node_that_is_faster(self) -> None:
        """It hears of Ctrl-C too, and that it ended may be known before Ctrl-C is: a devnet ends in order, and once."""
        ended = subprocess.run([sys.executable, "-c", FASTER], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((ended.stdout.splitlines()[-1], ended.stderr), ("0", ""))

    def test_before_anything_is_waited_for(self) -> None:
        """A command that never waits is finished when it hears of it, and nothing breaks in the midst of it."""
        code = COMMAND.format(then="raise", again="pass").replace("reactor.callLater(0, os.kill,", "os.kill(").replace(
            "await Deferred()", "print('done', flush=True)"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((ended.stdout.split(), ended.stderr), (["done", "interrupted"], ""))


class Unheard(SynchronousTestCase):
    def test_a_secret_that_nobody_saw(self) -> None:
        """Is told once: which key has to be revoked is said, however the output failed."""
        folder = Path(self.mktemp())
        folder.mkdir()
        self.patch(admin, "ask", lambda folder, question: Answer(secret="ab" * 32))

        def fails(*lines: str) -> None:
            raise failure

        self.patch(admin, "say", fails)
        self.assertIs(admin.warn, terminal.warn)
        from timeproto.cli.main import build_parser

        argv = ["admin", "mint", "shop", "--cost-per-second", "100", "--datadir", str(folder)]
        for failure in (BrokenPipeError(), StorageError("standard output is closed")):
            said = io.StringIO()
            with contextlib.redirect_stderr(said):
                arguments = build_parser().parse_args(argv)
                self.assertRaises(type(failure), arguments.run, arguments)
            self.assertIn("the key shop was made and nobody has seen its secret: revoke it", said.getvalue())
            self.assertNotIn("ab" * 32, said.getvalue())
