"""How a node ends: with its status, whatever fails on the way, and without another vote."""

from __future__ import annotations

import atexit
import errno
import sys
from io import StringIO
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.testing import MemoryReactorClock

from tests.test_masternode.bridge import Bridge, Hold
from timeproto.errors import ConfigurationError, ExitStatus, IdentityConflict, StorageError
from timeproto.masternode import machine
from timeproto.masternode.config import make_config
from timeproto.masternode.service import TimeNode


class Stopped:
    """A reactor that counts how often it was stopped, and minds it twice, as Twisted's does."""

    running = True
    stops = 0

    def stop(self) -> None:
        if self.stops:
            raise ReactorNotRunning("Can't stop reactor that isn't running.")
        self.stops += 1


class Full(StringIO):
    """Standard error on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


class AtOnce:
    """A worker without a thread."""

    stopped = False

    def __call__(self, work: Any, *given: Any) -> Deferred[Any]:
        return maybeDeferred(work, *given)

    def stop(self) -> None:
        self.stopped = True


class OneByOne(Hold):
    """A worker whose jobs are done when the test says so."""

    stopped = False

    def __init__(self) -> None:
        super().__init__()
        self.open = False

    def stop(self) -> None:
        self.stopped = True


class Panic(BaseException):
    """What a library in another language raises when it breaks: no Exception."""


class Leaving(Bridge):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = Stopped()
        config = make_config({"datadir": self.mktemp()})
        self.node = TimeNode(self.reactor, config, self.alone.keys[0], self.alone.genesis)
        self.node.running = 1
        self.node._integration = self.bridge
        self.bridge._fatal = self.node.leave
        self.statuses: list[int] = []
        self.patch(atexit, "register", lambda call, status: self.statuses.append(status))
        self.said = StringIO()
        self.patch(sys, "__stderr__", self.said)

    def test_it_ends_with_its_status_and_a_sentence(self) -> None:
        """Once, by the first reason, whatever else goes wrong after it."""
        self.node.leave(ConfigurationError("the port\nis taken"))
        self.node.leave(StorageError("no space left"))
        self.assertEqual((self.statuses, self.reactor.stops), ([ExitStatus.CONFIGURATION], 1))
        self.assertEqual(self.said.getvalue(), "timenode: the port is taken\n")

    def test_it_ends_though_its_sentence_finds_no_room(self) -> None:
        """Standard error may lie on the disk that is full, or its reader may have gone."""
        self.patch(sys, "__stderr__", Full())
        self.node.leave(StorageError("no space left"))
        self.assertEqual((self.statuses, self.reactor.stops), ([ExitStatus.STORAGE], 1))

    def test_it_ends_while_it_stops_already(self) -> None:
        """Between a signal and the end something may still go wrong: it has its status and its sentence."""
        self.node._stop_reactor()
        self.node.leave(StorageError("no space left"))
        self.assertEqual((self.statuses, self.reactor.stops), ([ExitStatus.STORAGE], 1))
        self.assertIn("no space left", self.said.getvalue())

    def test_a_mistake_of_its_own_is_shown_whole(self) -> None:
        """With where it happened, though nothing is being handled when it is told."""
        self.node.leave(RuntimeError("unforeseen"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((self.statuses, self.reactor.stops), ([ExitStatus.STORAGE], 1))

    def test_a_key_that_another_uses_votes_no_more(self) -> None:
        """From the moment it is known, and not only from when the process has gone."""
        self.node.leave(IdentityConflict("another process runs with this node's key"))
        self.assertEqual(self.statuses, [ExitStatus.IDENTITY])
        self.assertEqual(self.code(self.bridge.process_transaction(self.payment())), "not_voting")
        self.bridge.tick()
        self.assertEqual((self.world.votes(), self.bridge.get_utxo_stats()["voting"]), ([], False))
        self.assertIn("runs with this node's key", self.bridge.replica.not_voting or "")

    def test_the_status_is_the_last_word(self) -> None:
        """Even where the last of what was said cannot be written."""
        ended: list[int] = []
        self.patch(machine.os, "_exit", ended.append)
        self.patch(sys, "stdout", Full())
        self.patch(sys.stdout, "flush", lambda: sys.stdout.write(""))
        with self.assertRaises(OSError):
            machine.exit_with(ExitStatus.STORAGE)
        self.assertEqual(ended, [ExitStatus.STORAGE])

    def test_a_store_that_does_not_close_is_a_failed_disk(self) -> None:
        """Its status and one sentence; what is to stop after it stops."""

        class Store:
            def close(self) -> None:
                raise StorageError("the store did not close: no space left")

        self.node._store, self.node._storing = Store(), AtOnce()
        self.node._verifying = AtOnce()
        self.successResultOf(self.node.stopService())
        self.assertEqual(self.statuses, [ExitStatus.STORAGE])
        self.assertEqual(self.said.getvalue(), "timenode: the store did not close: no space left\n")
        self.assertEqual((self.node._verifying.stopped, self.node._storing.stopped), (True, True))

    def test_a_store_that_breaks_as_it_closes(self) -> None:
        """In whatever way: it is told with its status, and what is to stop after it stops."""

        class Store:
            def close(self) -> None:
                raise Panic("the library panicked")

        self.node._store, self.node._storing, self.node._verifying = Store(), AtOnce(), AtOnce()
        self.successResultOf(self.node.stopService())
        self.assertEqual(len(self.flushLoggedErrors(Panic)), 1)
        self.assertEqual(self.statuses, [ExitStatus.STORAGE])
        self.assertEqual((self.node._verifying.stopped, self.node._storing.stopped), (True, True))

    def test_a_step_that_breaks(self) -> None:
        """In whatever way: the node ends, whoever waits is answered, and nothing keeps the store from being closed."""

        def step(*given: Any) -> Any:
            raise Panic("the library panicked")

        self.patch(self.bridge.replica, "step", step)
        self.bridge.tick()
        self.assertEqual(len(self.flushLoggedErrors(Panic)), 1)
        self.assertEqual(self.statuses, [ExitStatus.STORAGE])
        self.assertEqual(self.code(self.bridge.process_transaction(self.payment())), "not_voting")
        self.successResultOf(self.bridge.when_idle())

    def test_a_stop_while_it_starts(self) -> None:
        """Asked at either wait for the disk: what was begun is waited for and closed, and nothing else is begun."""
        for waits in (1, 2):
            config = make_config({"datadir": self.mktemp()})
            config.datadir.mkdir()
            node = TimeNode(MemoryReactorClock(), config, self.alone.keys[0], self.alone.genesis)
            node.running, node._verifying, node._storing = 1, AtOnce(), OneByOne()
            node._starting = ensureDeferred(node._start()).addErrback(node._failed)
            for _ in range(waits - 1):
                node._storing.let_go()
            stopping = node.stopService()
            done = []
            while node._storing.jobs:
                done.append(node._storing.jobs[0][0].__name__)
                node._storing.let_go()
            self.successResultOf(stopping)
            self.assertEqual(done, ["open_store", "commit", "close"][waits - 1 :])
            self.assertEqual((node._integration, self.statuses, self.said.getvalue()), (None, [], ""))
            self.assertEqual((node._verifying.stopped, node._storing.stopped), (True, True))
