"""A helper of a bench: a child process that does its part, is told what to do next, and says what it counted.

One JSON object a line, both ways. It ends when its standard input does, so it never outlives the bench.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

from timeproto.errors import ConfigurationError

PATIENCE = 120.0
"""Seconds a helper may take for an answer."""


class Helper(ProcessProtocol):
    """``python -m MODULE``, with ``nice`` added to its niceness."""

    def __init__(self, reactor: Any, module: str, nice: int = 0) -> None:
        self._reactor = reactor
        self._name = module
        self._buffer = b""
        self._said = b""
        self._waiting: list[Deferred[dict[str, Any]]] = []
        self._ended: list[Deferred[None]] = []
        self.is_over = False
        command = [sys.executable, "-m", module]
        if nice:
            command = ["nice", "-n", str(nice), *command]
        reactor.spawnProcess(self, command[0], command, env=dict(os.environ))

    @property
    def pid(self) -> int:
        transport: Any = self.transport
        number: int = transport.pid
        return number

    def ask(self, command: str, *, patience: float = PATIENCE, **arguments: Any) -> Deferred[dict[str, Any]]:
        """Fires with the answer; :class:`ConfigurationError` if the helper fails, or is silent for ``patience``
        seconds."""
        answer: Deferred[dict[str, Any]] = Deferred()
        if self.is_over:
            answer.errback(self._failure())
            return answer
        self._waiting.append(answer)
        transport: Any = self.transport
        transport.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
        return answer.addTimeout(patience, self._reactor, onTimeoutCancel=self._overdue)

    def end(self) -> Deferred[None]:
        """Fires when the process is gone."""
        ended: Deferred[None] = Deferred()
        if self.is_over:
            ended.callback(None)
            return ended
        self._ended.append(ended)
        transport: Any = self.transport
        transport.closeStdin()
        return ended

    def outReceived(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if self._waiting:
                answer = self._waiting.pop(0)
                if not answer.called:
                    answer.callback(json.loads(line))

    def errReceived(self, data: bytes) -> None:
        self._said = (self._said + data)[-4_096:]

    def processEnded(self, reason: Any) -> None:
        self.is_over = True
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if not answer.called:
                answer.errback(self._failure())
        ended, self._ended = self._ended, []
        for each in ended:
            each.callback(None)

    def _overdue(self, result: Any, seconds: float) -> dict[str, Any]:
        raise ConfigurationError(f"{self._name} did not answer within {seconds:g} s")

    def _failure(self) -> ConfigurationError:
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return ConfigurationError(f"{self._name} ended: {lines[-1] if lines else 'it said nothing'}")


def say(answer: dict[str, Any]) -> None:
    """A helper's answer to the command it was given."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
