"""Which addresses are kept dialled, and which rest because their masternode is linked in another way.

Addresses the operator configured, or a bootstrap server listed, are kept for good. What a peer says of another
masternode is a rumour: one address for each masternode that is not linked, the newest. So the table is bounded by the
set, however much is said.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from timeproto import limits
from timeproto.network.greeting import HandleFactory, back_off
from timeproto.network.requests import ConnectionGone, NotProven

MISSES = 6
"""Attempts in a row after which it is written down that they fail: some seconds."""
REASONS = 3
"""Times that this is written down …"""
WHILE = 600.0
"""… in so many seconds: those who stand there may say ever new reasons, or be found and lost again and again."""


@attrs.define
class _Dialler:
    """The service that dials one address. ``key`` is who proved to be there, or before that who is said to be."""

    address: str
    kept: bool
    service: ClientService = attrs.field(init=False)
    key: str | None = None
    is_proven: bool = False
    is_resting: bool = True
    is_self: bool = False
    misses: int = 0
    """Attempts in a row by which no masternode was found."""
    told: list[str] = attrs.field(factory=list, init=False)
    """Why, as far as it was written down since one was; the latest."""
    written: list[float] = attrs.field(factory=list, init=False)
    """When that was, the last few times."""


class Diallers:
    """One ``ClientService`` for each address, with pauses that grow to ``limits.RECONNECT_MAX``.

    Why no masternode is found at an address that is kept is written down, until one is: after some attempts, for those
    that start together do not find each other at the first; the same reason not again, as far as the last few go.
    """

    log = Logger()

    def __init__(self, clock: Any, endpoint: Callable[[str], Any], chance: Callable[[], float]) -> None:
        """``endpoint``: address → an endpoint whose ``connect`` succeeds when the other end has taken us as a peer.
        ``chance`` gives a number from 0 to 1, to spread the pauses."""
        self._clock = clock
        self._endpoint = endpoint
        self._chance = chance
        self._by_address: dict[str, _Dialler] = {}

    def __len__(self) -> int:
        return len(self._by_address)

    def keep(self, address: str) -> None:
        """Dial ``address`` from now on, whoever is there; at most ``limits.PEERS_PAGE`` of them."""
        known = self._by_address.get(address)
        if known is not None:
            known.kept = True
        elif sum(dialler.kept for dialler in self._by_address.values()) < limits.PEERS_PAGE:
            self._wake(self._add(address, kept=True))

    def try_rumour(self, key: str, address: str) -> None:
        """Dial ``address``, where the masternode ``key``, which is not linked, is said to be."""
        known = self._of(key)
        if address in self._by_address or any(dialler.is_proven for dialler in known):
            return
        for dialler in known:
            if not dialler.kept:
                self._drop(dialler)
        dialler = self._add(address, kept=False)
        dialler.key = key
        self._wake(dialler)

    def proven(self, address: str | None, key: str) -> None:
        """The masternode ``key`` stands at ``address``."""
        dialler = self._by_address.get(address or "")
        if dialler is not None:
            dialler.key, dialler.is_proven = key, True
            self._found(dialler)

    def found_self(self, address: str | None) -> None:
        """``address`` turned out to be our own: it is never dialled again."""
        dialler = self._by_address.get(address or "")
        if dialler is not None:
            dialler.is_self = True
            self._rest(dialler)

    def linked(self, key: str, carrier: str | None) -> None:
        """``key`` is linked by the connection dialled to ``carrier``, or by one it dialled: the other diallers rest."""
        others = [dialler for dialler in self._of(key) if dialler.address != carrier]
        for dialler in others:
            self._found(dialler)
            self._rest(dialler)
        for dialler in [dialler for dialler in others if not dialler.kept][1:]:
            self._drop(dialler)  # one is enough to find it again, and it remembers its pauses

    def unlinked(self, key: str) -> None:
        """``key`` is not linked any more: dial it again where it was found before."""
        for dialler in self._of(key):
            self._wake(dialler)

    def stop(self) -> list[Deferred[Any]]:
        """Ends them all; fires when their attempts and connections are gone."""
        awake = [dialler for dialler in self._by_address.values() if not dialler.is_resting]
        self._by_address.clear()
        return [maybeDeferred(dialler.service.stopService) for dialler in awake]

    def _of(self, key: str) -> list[_Dialler]:
        return [dialler for dialler in self._by_address.values() if dialler.key == key]

    def _add(self, address: str, *, kept: bool) -> _Dialler:
        dialler = self._by_address[address] = _Dialler(address, kept)
        dialler.service = ClientService(
            _Noted(self._endpoint(address), partial(self._missed, dialler)),
            HandleFactory(),
            retryPolicy=lambda attempt: back_off(attempt, self._chance),
            clock=self._clock,
        )
        return dialler

    def _found(self, dialler: _Dialler) -> None:
        """Its masternode has proven itself, there or elsewhere."""
        if dialler.told:
            self.log.info("the masternode of {address} is found", address=dialler.address)
        dialler.misses = 0
        dialler.told.clear()

    def _missed(self, dialler: _Dialler, failure: Failure) -> None:
        if dialler.is_self or not _is_miss(failure):
            return
        dialler.misses += 1
        why = failure.getErrorMessage()
        # Only of what is kept: what others say where somebody is may be wrong, and without end.
        if dialler.kept and dialler.misses >= MISSES and why not in dialler.told and self._may_tell(dialler):
            self.log.warn("no masternode is found at {address}: {why}", address=dialler.address, why=why)
            dialler.told = [*dialler.told, why][-REASONS:]

    def _may_tell(self, dialler: _Dialler) -> bool:
        """Once more of this address, if that was not often of late."""
        now = self._clock.seconds()
        if len(dialler.written) == REASONS and now - dialler.written[0] < WHILE:
            return False
        dialler.written = [*dialler.written, now][-REASONS:]
        return True

    def _wake(self, dialler: _Dialler) -> None:
        if dialler.is_resting and not dialler.is_self:
            dialler.is_resting = False
            dialler.service.startService()

    def _rest(self, dialler: _Dialler) -> None:
        if not dialler.is_resting:
            dialler.is_resting = True
            maybeDeferred(dialler.service.stopService)

    def _drop(self, dialler: _Dialler) -> None:
        del self._by_address[dialler.address]
        self._rest(dialler)


@implementer(IStreamClientEndpoint)
class _Noted:
    """An endpoint that tells of each attempt that fails."""

    def __init__(self, endpoint: Any, missed: Callable[[Failure], None]) -> None:
        self._endpoint = endpoint
        self._missed = missed

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)

        def failed(failure: Failure) -> Failure:
            self._missed(failure)
            return failure

        return connecting.addErrback(failed)


def _is_miss(failure: Failure) -> bool:
    """False if the attempt was given up, or if the masternode was there and left: it is linked in another way, or else
    the next attempt tells."""
    if failure.check(CancelledError, ConnectingCancelledError):
        return False
    return failure.check(ConnectionGone) is None or failure.check(NotProven) is not None
