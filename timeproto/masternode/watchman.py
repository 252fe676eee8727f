"""Writes down when the node begins to vote and when it ceases, and when a quorum is linked and when it is gone.

Who reads the log in the morning wants to know since when nothing became final. Changes only: a node that is well, or
that stays ill, adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from timeproto import limits
from timeproto.model.masternodes import MasternodeSet

NAMED = 10
"""Masternodes that are away and named in one line, by the first ``DIGITS`` digits of their keys."""
DIGITS = 8


class Watchman(Service):
    """Looks once a second, so what comes and goes within one is no news."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        masternodes: MasternodeSet,
        key: str,
        *,
        not_voting: Callable[[], str | None],
        links: Container[str],
    ) -> None:
        """``key`` is the node's own; ``not_voting`` says why it does not vote; ``links`` has the keys of the
        masternodes that are linked now."""
        self._masternodes = masternodes
        self._key = key
        self._not_voting = not_voting
        self._links = links
        self._votes = not_voting() is None  # which is said where the start is told
        self._has_quorum = True if masternodes.quorum == 1 else None
        self._looking = LoopingCall(self.look)
        self._looking.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._looking.start(limits.TICK, now=False).addErrback(
            lambda failure: self.log.failure("nobody watches any more whether this node votes", failure=failure)
        )

    def stopService(self) -> None:
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    def look(self) -> None:
        """Tells what has changed since the last look."""
        away = [key for key in self._masternodes.keys if key != self._key and key not in self._links]
        linked, quorum = len(self._masternodes) - len(away), self._masternodes.quorum
        has_quorum = linked >= quorum
        if has_quorum and self._has_quorum is not True:
            self.log.info(
                "a quorum of masternodes is linked: {linked} of {all}, {quorum} needed",
                linked=linked, all=len(self._masternodes), quorum=quorum,
            )  # fmt: skip
        elif not has_quorum and self._has_quorum is not False:
            self.log.warn(
                "no quorum of masternodes is linked, nothing becomes final: {linked} of {all}, {quorum} needed;"
                " away: {away}",
                linked=linked, all=len(self._masternodes), quorum=quorum, away=_names(away),
            )  # fmt: skip
        self._has_quorum = has_quorum
        why = self._not_voting()
        if why is None and not self._votes:
            self.log.info("this node votes")
        elif why is not None and self._votes:
            self.log.warn("this node does not vote: {why}", why=why)
        self._votes = why is None


def _names(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return " ".join(key[:DIGITS] for key in keys[:NAMED]) + more
