"""``timeproto devnet``: what is refused before a process is started, what the layout keeps of the options, and that
only its own nodes count, and only while they run."""

from __future__ import annotations

import contextlib
import errno
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Node
from timeproto.cli import main
from timeproto.devnet import processes
from timeproto.devnet.layout import lay_out
from timeproto.devnet.processes import Devnet
from timeproto.errors import ConfigurationError


class Intervals(SynchronousTestCase):
    """The block interval is the genesis's: chosen once."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_the_networks_or_the_one_asked_for(self) -> None:
        """Five seconds unless somebody wants another."""
        for interval, expected in ((None, 5), (2, 2)):
            folder = self.folder / str(interval)
            folder.mkdir()
            self.assertEqual(lay_out(folder, 1, 24_100, block_interval=interval).genesis.block_interval, expected)

    def test_an_old_devnet_keeps_its_own(self) -> None:
        """Unasked, or asked for the same; another is refused and nothing changes."""
        made = lay_out(self.folder, 1, 24_100, block_interval=2).genesis
        for interval in (None, 2):
            self.assertEqual(lay_out(self.folder, 1, 24_100, block_interval=interval).genesis, made)
        with self.assertRaisesRegex(ConfigurationError, "a block each 2 s, not 5"):
            lay_out(self.folder, 1, 24_100, block_interval=5)
        self.assertEqual(lay_out(self.folder, 1, 24_100).genesis, made)

    def test_intervals_that_cannot_be(self) -> None:
        """Status 2 and one sentence, before anything is written or started."""
        for interval in ("0", "-1", "3601"):
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                status = main.main(["devnet", "--datadir", str(self.folder), "--block-interval", interval])
            self.assertEqual(status, 2)
            self.assertIn("1 to 3600", err.getvalue())
        self.assertEqual(list(self.folder.iterdir()), [])


class Places(SynchronousTestCase):
    def test_where_nothing_can_be_kept(self) -> None:
        """A file in its place, a folder nobody can make: status 2 and one sentence that names it."""
        file = Path(self.mktemp())
        file.touch()
        for place in (file, file / "under", Path("/proc/nowhere")):
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                status = main.main(["devnet", "-n", "1", "--datadir", str(place)])
            self.assertEqual((status, err.getvalue().count("\n")), (2, 1))
            self.assertIn(f"a devnet cannot be kept in {place.absolute()}: ", err.getvalue())


class Kernel(Clock):
    """A reactor whose processes are kept in ``spawned``, and end when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Any] = []

    def spawnProcess(self, protocol: Any, *_: Any, **__: Any) -> None:
        protocol.transport = SimpleNamespace(pid=None)
        self.spawned.append(protocol)

    def end(self, number: int, said: bytes = b"", status: int = 2) -> None:
        protocol = self.spawned[number - 1]
        protocol.errReceived(said)
        protocol.processEnded(Failure(ProcessTerminated(status) if status else ProcessDone(0)))


class Processes(SynchronousTestCase):
    """The nodes of a devnet, pretended: two processes, and whoever answers at their addresses."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.kernel = Kernel()
        self.devnet = Devnet(self.kernel, lay_out(folder, 2, 24_100))
        self.genesis = self.devnet.layout.genesis.hash
        self.patch(processes, "ask", lambda *_: succeed(self.answer()))

    def answer(self) -> Any:
        info = Node().view.info()
        return type(info)(**{name: getattr(info, name) for name in info.__struct_fields__}
                          | {"genesis": self.genesis, "connected": 2})

    def start(self) -> Deferred[None]:
        starting = ensureDeferred(self.devnet.start(patience=5.0))
        self.kernel.advance(processes.POLL)
        return starting

    def end_all(self) -> None:
        for process in self.kernel.spawned:
            if process.status is None:
                process.processEnded(Failure(ProcessDone(0)))

    def test_another_networks_nodes_are_not_ours(self) -> None:
        """Whoever else answers at our addresses, the devnet does not stand; it fails when its own nodes end."""
        self.genesis = "00" * 32
        starting = self.start()
        self.assertNoResult(starting)
        self.kernel.end(2, b"timenode: 127.0.0.1:24101 cannot be listened on\nMain loop terminated.\nShut Down.\n")
        self.kernel.advance(processes.POLL)
        why = str(self.failureResultOf(starting, ConfigurationError).value)
        self.assertIn("masternode 2 ended with status 2: 127.0.0.1:24101 cannot be listened on", why)
        self.assertNotIn("Shut Down", why)
        self.end_all()

    def test_nobody_answers(self) -> None:
        """Patience has an end."""
        self.genesis = "00" * 32
        starting = self.start()
        self.kernel.pump([1.0] * 6)
        self.assertIn("does not answer", str(self.failureResultOf(starting, ConfigurationError).value))
        self.end_all()

    def test_one_that_cannot_be_started(self) -> None:
        """That is told, and who stops the others does not wait for it."""
        spawn = self.kernel.spawnProcess

        def fail_second(protocol: Any, *arguments: Any, **more: Any) -> None:
            if self.kernel.spawned:
                raise OSError(errno.EAGAIN, "no more processes")
            spawn(protocol, *arguments, **more)

        self.patch(self.kernel, "spawnProcess", fail_second)
        self.failureResultOf(self.start(), OSError)
        stopping = ensureDeferred(self.devnet.stop())
        self.end_all()
        self.assertEqual(self.successResultOf(stopping), [0])

    def test_a_node_that_ends_ends_what_goes_on(self) -> None:
        """With its last words; what was under way is called off."""
        self.successResultOf(self.start())
        cancelled: list[Any] = []
        working: Deferred[None] = Deferred(cancelled.append)
        guarded = self.devnet.while_all_run(working)
        self.kernel.end(1, b"timenode: the disk is full\n", status=3)
        why = str(self.failureResultOf(guarded, ConfigurationError).value)
        self.assertIn("masternode 1 ended with status 3: the disk is full", why)
        self.assertEqual(cancelled, [working])
        self.end_all()

    def test_what_ends_first_is_told(self) -> None:
        """Nodes that end after the work has ended are as they should be; and an error of the work is its own."""
        self.successResultOf(self.start())
        self.assertEqual(self.successResultOf(self.devnet.while_all_run(succeed("done"))), "done")
        failing: Deferred[None] = Deferred()
        guarded = self.devnet.while_all_run(failing)
        failing.errback(ZeroDivisionError())
        self.failureResultOf(guarded, ZeroDivisionError)
        self.end_all()

    def test_called_off_before_the_nodes_end(self) -> None:
        """By Ctrl-C, which they hear too: however the work takes it, who stops them is told of each that has ended."""
        self.successResultOf(self.start())
        going_on: Deferred[None] = Deferred()

        async def tidies_up() -> None:
            try:
                await Deferred()
            finally:
                await going_on

        guarded = self.devnet.while_all_run(ensureDeferred(tidies_up()))
        guarded.cancel()
        self.failureResultOf(guarded, CancelledError)
        self.end_all()
        going_on.callback(None)
        self.assertEqual(self.devnet._mourners, [])

    def test_words_of_an_earlier_life_are_not_the_last(self) -> None:
        """A log that is kept is written on: what was said in it before this process is not its reason."""
        self.devnet.layout.nodes[0].log.write_text("timenode: an old reason\n")
        self.successResultOf(self.start())
        self.kernel.end(1, b"killed\n")
        self.assertEqual(self.kernel.spawned[0].last_words(), "killed")
        self.kernel.end(2)
        self.assertEqual(self.kernel.spawned[1].last_words(), "it said nothing")
