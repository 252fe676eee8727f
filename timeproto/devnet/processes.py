"""Runs the masternodes of a devnet as processes, and is sure to end them.

Each node's standard input is a pipe from here, and the node stops when it ends: so even if this process is
killed, nothing is left running.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater

from timeproto.devnet.layout import Layout, NodeFiles
from timeproto.errors import ConfigurationError, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.ask import ask
from timeproto.wallet.nodes import Node
from timeproto.wire import messages

STOP_TIME = 8.0
"""Seconds a node has to end after SIGTERM before it is killed."""
POLL = 0.1


class NodeProcess(ProcessProtocol):
    """One masternode. ``ended`` fires with its exit status when the process is gone."""

    def __init__(self, reactor: Any, node: NodeFiles) -> None:
        self.node = node
        self.status: int | None = None
        self._reactor = reactor
        self._ended: list[Deferred[int]] = []
        self._log = open(node.log, "ab", buffering=0)  # noqa: SIM115  (closed when the process ends)

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
        """The last line of the node's log."""
        lines = self.node.log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Devnet:
    """All masternodes of a layout."""

    def __init__(self, reactor: Any, layout: Layout) -> None:
        self.layout = layout
        self._reactor = reactor
        self.processes: list[NodeProcess] = []

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.layout.nodes]

    def node(self, number: int) -> Node:
        """How a wallet reaches masternode ``number`` (from 1)."""
        return Node(self.addresses[number - 1], tls=self.layout.tls)

    async def start(self, patience: float = 60.0) -> None:
        """Starts every node and returns when each votes and sees all others; :class:`ConfigurationError` if one
        ends, or if that takes more than ``patience`` seconds."""
        self.processes = [NodeProcess(self._reactor, node) for node in self.layout.nodes]
        for process in self.processes:
            process.start()
        await self.meshed(patience)

    def restart(self, number: int) -> NodeProcess:
        """A new process for node ``number`` (from 1); the old one must have ended."""
        process = NodeProcess(self._reactor, self.layout.nodes[number - 1])
        self.processes[number - 1] = process
        process.start()
        return process

    async def meshed(self, patience: float = 60.0) -> None:
        """Returns when every running node votes and is connected to every other running one."""
        deadline = self._reactor.seconds() + patience
        running = [process for process in self.processes if process.status is None]
        for process in running:
            while True:
                if process.status is not None:
                    raise ConfigurationError(
                        f"masternode {process.node.number} ended with status {process.status}: {process.last_words()}"
                    )
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
        """What node ``number`` says of itself, None if it cannot be asked."""
        try:
            reply = await ask(self._reactor, self.node(number), messages.GetInfo())
        except (Refusal, ConnectionGone):
            return None
        return reply if isinstance(reply, messages.Info) else None

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
