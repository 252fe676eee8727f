"""Runs the masternodes of a devnet as processes, and is sure to end them.

Each node's standard input is a pipe from here, and the node stops when it ends: so even if this process is
killed, nothing is left running.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from timeproto.devnet.layout import Layout, NodeFiles
from timeproto.errors import ConfigurationError, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.ask import ask
from timeproto.wallet.nodes import Node
from timeproto.wire import messages

STOP_TIME = 8.0
"""Seconds a node has to end after SIGTERM before it is killed."""
POLL = 0.1
LAST_WORDS = "timenode: "
"""How a node begins the sentence that says why it ends (masternode.service). Twisted has its say after it."""

T = TypeVar("T")


class NodeProcess(ProcessProtocol):
    """One masternode. ``on_end(process)`` is called when it is gone, before whoever waits for that."""

    def __init__(self, reactor: Any, node: NodeFiles, on_end: Callable[[NodeProcess], None]) -> None:
        self.node = node
        self.status: int | None = None
        self._reactor = reactor
        self._on_end = on_end
        self._ended: list[Deferred[int]] = []
        self._log = open(node.log, "ab", buffering=0)  # noqa: SIM115  (closed when the process ends)
        self._began = self._log.tell()

    def start(self) -> None:
        twistd = Path(sys.executable).with_name("twistd")
        command = [str(twistd)] if twistd.exists() else [sys.executable, "-m", "twisted"]
        arguments = [
            *command,
            "--nodaemon",
            "--pidfile=",
            "timenode",
            "--config",
            str(self.node.config),
            "--until-stdin-closes",
        ]
        self._reactor.spawnProcess(self, arguments[0], arguments, env=dict(os.environ), path=str(self.node.folder))

    @property
    def pid(self) -> int | None:
        return None if self.transport is None else self.transport.pid  # type: ignore[unreachable,unused-ignore]

    def outReceived(self, data: bytes) -> None:
        self._log.write(data)

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        self.status = reason.value.exitCode if reason.value.exitCode is not None else -(reason.value.signal or 0)
        self._log.close()
        self._on_end(self)
        waiting, self._ended = self._ended, []
        for each in waiting:
            each.callback(self.status)

    def when_ended(self) -> Deferred[int]:
        ended: Deferred[int] = Deferred()
        if self.status is not None:
            ended.callback(self.status)
        else:
            self._ended.append(ended)
        return ended

    def signal(self, number: int) -> None:
        """Sends a signal if the process is still there."""
        if self.status is None and self.pid is not None:
            os.kill(self.pid, number)

    def last_words(self) -> str:
        """Why the node ended, as it says; else the last line that it wrote."""
        lines = self.node.log.read_bytes()[self._began :].decode("utf-8", "replace").strip().splitlines()
        reasons = [line.removeprefix(LAST_WORDS) for line in lines if line.startswith(LAST_WORDS)]
        return (reasons or lines or ["it said nothing"])[-1]

    def death(self) -> ConfigurationError:
        """That it ended, and why, for whoever needed it."""
        return ConfigurationError(
            f"masternode {self.node.number} ended with status {self.status}: {self.last_words()}"
        )


class Devnet:
    """All masternodes of a layout."""

    def __init__(self, reactor: Any, layout: Layout) -> None:
        self.layout = layout
        self._reactor = reactor
        self.processes: list[NodeProcess] = []
        self._mourners: list[Callable[[NodeProcess], None]] = []

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.layout.nodes]

    def node(self, number: int) -> Node:
        """How a wallet reaches masternode ``number`` (from 1)."""
        return Node(self.addresses[number - 1], tls=self.layout.tls)

    async def start(self, patience: float = 60.0) -> None:
        """Starts every node and returns when each votes and sees all others; :class:`ConfigurationError` if one
        ends, or if that takes more than ``patience`` seconds."""
        self.processes = []
        for node in self.layout.nodes:
            process = NodeProcess(self._reactor, node, self._mourn)
            process.start()
            self.processes.append(process)  # now: one that was never started never ends, and would be waited for
        await self.meshed(patience)

    def _mourn(self, process: NodeProcess) -> None:
        mourners, self._mourners = self._mourners, []
        for mourner in mourners:
            mourner(process)

    def while_all_run(self, work: Deferred[T]) -> Deferred[T]:
        """What ``work`` comes to. If a node ends first that is :class:`ConfigurationError`, and ``work`` is cancelled:
        who needs a network must not wait, or ask a stranger at its port, when it is gone."""
        outcome: Deferred[T] = Deferred(lambda _: work.cancel())

        def died(process: NodeProcess) -> None:
            if not outcome.called:
                outcome.errback(process.death())
                work.cancel()

        def done(result: T | Failure) -> None:
            if died in self._mourners:
                self._mourners.remove(died)
            if outcome.called:
                return  # it was cancelled, and how it took that matters to nobody
            if isinstance(result, Failure):
                outcome.errback(result)
            else:
                outcome.callback(result)

        self._mourners.append(died)
        work.addBoth(done)
        return outcome

    def restart(self, number: int) -> NodeProcess:
        """A new process for node ``number`` (from 1); the old one must have ended."""
        process = NodeProcess(self._reactor, self.layout.nodes[number - 1], self._mourn)
        process.start()
        self.processes[number - 1] = process
        return process

    async def meshed(self, patience: float = 60.0) -> None:
        """Returns when every running node votes and is connected to every other running one."""
        deadline = self._reactor.seconds() + patience
        running = [process for process in self.processes if process.status is None]
        for process in running:
            while True:
                for each in running:  # any of them: the others would wait for it
                    if each.status is not None:
                        raise each.death()
                info = await self.info(process.node.number)
                if info is not None and info.voting and info.connected >= len(running):
                    break
                if self._reactor.seconds() > deadline:
                    reason = "it does not answer" if info is None else info.not_voting or "it lacks peers"
                    raise ConfigurationError(f"masternode {process.node.number} is not ready: {reason}")
                await deferLater(self._reactor, POLL)

    def cpu_seconds(self) -> float:
        """User and system time that all running nodes have used so far."""
        ticks = 0
        for process in self.processes:
            if process.status is None and process.pid is not None:
                fields = Path(f"/proc/{process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    async def info(self, number: int) -> messages.Info | None:
        """What node ``number`` says of itself, None if it cannot be asked, or if another network answers in its place:
        somebody may have had the port before."""
        try:
            reply = await ask(self._reactor, self.node(number), messages.GetInfo())
        except (Refusal, ConnectionGone):
            return None
        is_ours = isinstance(reply, messages.Info) and reply.genesis == self.layout.genesis.hash
        return reply if is_ours else None

    async def stop(self) -> list[int]:
        """Ends every node, gently and then not; the exit statuses."""
        for process in self.processes:
            process.signal(signal.SIGTERM)
        killers = [
            self._reactor.callLater(STOP_TIME, process.signal, signal.SIGKILL)
            for process in self.processes
            if process.status is None
        ]
        statuses = [await process.when_ended() for process in self.processes]
        for killer in killers:
            if killer.active():
                killer.cancel()
        return statuses
