"""The operator's door: a unix socket in the data directory, for the node's own user and root alone.

One question in one line of JSON, one answer in one line, and the connection closes. Nothing here is reachable from a
network; what is asked and answered is :mod:`timeproto.masternode.desk`'s.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin

from timeproto.errors import ConfigurationError
from timeproto.masternode.desk import Answer, AnyQuestion, Desk

NAME = "admin.sock"
LINE = 4_096
"""Bytes of a question."""
TIME = 10.0
"""Seconds for a question to come and for its answer to be taken."""
AT_ONCE = 8
"""Connections."""
_LONGEST = 100
"""Bytes of a path that fit a socket's address on every system."""

_decoder = msgspec.json.Decoder(AnyQuestion)


class Door:
    """Where the socket of a data directory is. ``path`` is good until :meth:`close`."""

    def __init__(self, folder: Path) -> None:
        """:class:`ConfigurationError` if the folder is not there, or its path is too long for this system."""
        self._descriptor: int | None = None
        self.path = str(folder / NAME)
        if len(os.fsencode(self.path)) <= _LONGEST:
            return
        try:
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ConfigurationError(f"the data directory {folder} cannot be opened: {error.strerror}") from None
        self.path = f"/proc/self/fd/{self._descriptor}/{NAME}"
        if not os.path.isdir(os.path.dirname(self.path)):
            self.close()
            raise ConfigurationError(f"the path {folder / NAME} is too long for a socket")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class AdminProtocol(LineOnlyReceiver, TimeoutMixin):
    """One question and its answer."""

    delimiter = b"\n"
    MAX_LENGTH = LINE
    factory: AdminFactory
    _who = "?"
    _asked = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        allowed, self._who = peer(transport)
        if not allowed or len(self.factory.open) >= AT_ONCE:
            transport.abortConnection()
            return
        self.factory.open.add(self)
        self.setTimeout(TIME)

    def callLater(self, period: float, func: Any) -> Any:
        """TimeoutMixin asks this."""
        return self.factory.clock.callLater(period, func)

    def lineReceived(self, line: bytes) -> None:
        if self._asked:
            return
        self._asked = True
        self.resetTimeout()
        try:
            question = _decoder.decode(line)
        except (ValueError, RecursionError) as error:  # the latter from what is nested too deep
            self._say(Answer(error=f"that is no question: {error}"))
            return
        self.factory.desk.hear(question, self._who).addCallback(self._say)

    def lineLengthExceeded(self, line: bytes) -> None:
        if not self._asked:
            self._asked = True
            self._say(Answer(error=f"a question has at most {LINE} bytes"))

    def _say(self, answer: Answer) -> None:
        self.sendLine(msgspec.json.encode(answer))
        transport: Any = self.transport
        transport.loseConnection()

    def timeoutConnection(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.setTimeout(None)
        self.factory.open.discard(self)


class AdminFactory(Factory):
    """``clock``: an IReactorTime provider."""

    noisy = False
    protocol: Any = AdminProtocol

    def __init__(self, clock: Any, desk: Desk) -> None:
        self.clock = clock
        self.desk = desk
        self.open: set[AdminProtocol] = set()


def peer(transport: Any) -> tuple[bool, str]:
    """Whether the other end may ask, and who it is: the socket's mode says so too, but files can be copied about."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True, "the operator"
    size = struct.calcsize("3i")
    process, user, _ = struct.unpack("3i", transport.socket.getsockopt(socket.SOL_SOCKET, option, size))
    return user in (0, os.geteuid()), f"user {user} (process {process})"


class Admin(Service):
    """Opens the door and closes it."""

    log = Logger()

    def __init__(self, reactor: Any, folder: Path, desk: Desk) -> None:
        self.setName("admin")
        self._reactor = reactor
        self._folder = folder
        self._factory = AdminFactory(reactor, desk)
        self._door: Door | None = None
        self._port: Any = None

    def listen(self) -> None:
        """Opens the socket, mode 0600. Where there can be none the node runs without, and says so.

        Only one process has the store of a data directory: a socket that is there is left from one that was killed.
        """
        try:
            self._door = Door(self._folder)
            path = self._door.path
            if os.path.lexists(path) and stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
            before = os.umask(0o177)  # from its first moment nobody else may open it
            try:
                self._port = self._reactor.listenUNIX(path, self._factory, mode=0o600)
            finally:
                os.umask(before)
        except Exception as error:
            self.log.warn("no commands of the operator are taken: {why}", why=error)

    def stopService(self) -> Deferred[None]:
        """Fires when the socket is gone."""
        super().stopService()
        for each in tuple(self._factory.open):
            each.timeoutConnection()

        def closed(_: Any) -> None:
            if self._door is not None:
                self._door.close()

        port, self._port = self._port, None
        stopping = maybeDeferred(lambda: None if port is None else port.stopListening())
        return stopping.addBoth(closed)
