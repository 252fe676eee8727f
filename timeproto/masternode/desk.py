"""What an operator may ask of a running node, and do to it: bans, keys, connections. Who is let in: see admin."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatchmethod
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.model.canonical import I64, Hex32, Noun
from timeproto.network.budget import Account, Budgets
from timeproto.network.peer_manager import PeerManager
from timeproto.network.quota import Key, Keys
from timeproto.web.hooks import replace_file
from timeproto.wire.messages import Count, Name

ROWS = 1_000
"""Connections that one answer lists."""


class Question(Noun, frozen=True, tag_field="do"):
    """Base of what may be asked; ``do`` is its name in lower case."""


class Bans(Question, frozen=True, tag="bans"):
    """Masternodes with a record, and those that are shut out."""


class Unban(Question, frozen=True, tag="unban"):
    """Forget what a masternode did, and let it in."""

    key: Hex32


class ListKeys(Question, frozen=True, tag="keys"):
    """The keys that were given out."""


class Mint(Question, frozen=True, tag="mint"):
    """A new key, whose secret is told once."""

    name: Name
    cost_per_second: Annotated[int, Meta(ge=1, le=limits.KEY_COST_PER_SECOND)]


class Revoke(Question, frozen=True, tag="revoke"):
    """A key is worth nothing from now on."""

    name: Name


class Connections(Question, frozen=True, tag="connections"):
    """Those that asked most, first."""

    most: Annotated[int, Meta(ge=1, le=ROWS)] = 20


AnyQuestion = Bans | Unban | ListKeys | Mint | Revoke | Connections


class Ban(Noun, frozen=True):
    """``points`` against a masternode; ``left_ms`` it is shut out for, 0 if it is not."""

    key: Hex32
    points: Count
    left_ms: Count


class KeyLine(Noun, frozen=True):
    name: Name
    cost_per_second: Count
    minted_at: I64
    connections: Count


class ConnectionLine(Noun, frozen=True):
    """``spent`` since it was opened ``since_ms`` ago; ``left`` may be spent at once; it is not read for ``hold_ms``."""

    host: str
    way: str
    key: Name | None
    since_ms: Count
    spent: Count
    left: Count
    hold_ms: Count


class Crowd(Noun, frozen=True):
    """All connections: ``refused`` requests and ``sent_away`` connections since the start; ``speed_permille`` is 1000
    unless all wallets together ask too much."""

    connections: tuple[ConnectionLine, ...]
    total: Count
    refused: Count
    sent_away: Count
    speed_permille: Count


class Answer(Noun, frozen=True, omit_defaults=True):
    """One field is set, and ``error`` alone if nothing was done."""

    error: str | None = None
    done: str | None = None
    secret: str | None = None
    bans: tuple[Ban, ...] | None = None
    keys: tuple[KeyLine, ...] | None = None
    crowd: Crowd | None = None


class Kept(Noun, frozen=True):
    """The file of keys."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    keys: tuple[Key, ...] = ()


def load_keys(path: Path) -> tuple[Key, ...]:
    """What was saved last, nothing if nothing was; :class:`ConfigurationError` if the file is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept).keys
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the keys in {path} cannot be read ({error}): without the file the node starts, and knows no key"
        ) from None


def save_keys(path: Path, keys: tuple[Key, ...]) -> None:
    """Durably, for the owner's eyes alone. Blocks."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(Kept(keys=keys)), indent=1))


class Desk:
    """Answers the operator's questions. What it does is in the log, and no secret is."""

    log = Logger()

    def __init__(
        self,
        *,
        peers: PeerManager,
        budgets: Budgets,
        keys: Keys,
        save: Callable[[tuple[Key, ...]], Deferred[Any]],
        now: Callable[[], int],
    ) -> None:
        """``save`` fires when the keys are kept durably; ``now`` gives Unix milliseconds."""
        self._peers = peers
        self._budgets = budgets
        self._keys = keys
        self._save = save
        self._now = now

    def hear(self, question: AnyQuestion, who: str) -> Deferred[Answer]:
        """``who`` asks, for the log. What cannot be done is an answer too."""
        try:
            answer = self._answer(question, who)
        except Refusal as refusal:
            answer = succeed(Answer(error=refusal.message))
        return answer.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Answer:
        self.log.failure("the desk failed", failure=failure)
        return Answer(error=f"that failed: {failure.getErrorMessage()}")

    @singledispatchmethod
    def _answer(self, question: Any, who: str) -> Deferred[Answer]:
        raise Refusal(ErrorCode.UNSUPPORTED, "there is no such question")

    @_answer.register
    def _bans(self, question: Bans, who: str) -> Deferred[Answer]:
        rows = [Ban(each.key, each.points, round(each.seconds * 1000)) for each in self._peers.record.entries()]
        return succeed(Answer(bans=tuple(rows)))

    @_answer.register
    def _unban(self, question: Unban, who: str) -> Deferred[Answer]:
        if not self._peers.forgive(question.key):
            raise Refusal(ErrorCode.NOT_FOUND, f"masternode {question.key} is not shut out, and nothing is held of it")
        self.log.info("{who} forgives masternode {key}", who=who, key=question.key)
        return succeed(Answer(done=f"masternode {question.key} is let in again"))

    @_answer.register
    def _list_keys(self, question: ListKeys, who: str) -> Deferred[Answer]:
        rows = [
            KeyLine(each.name, each.cost_per_second, each.minted_at, self._keys.users(each.name))
            for each in self._keys.kept
        ]
        return succeed(Answer(keys=tuple(rows)))

    @_answer.register
    def _mint(self, question: Mint, who: str) -> Deferred[Answer]:
        secret = self._keys.mint(question.name, question.cost_per_second, self._now())

        def kept(_: Any) -> Answer:
            self.log.info("{who} mints the key {name}, {rate} a second", who=who, name=question.name,
                          rate=question.cost_per_second)
            return Answer(secret=secret)

        def lost(failure: Failure) -> Answer:
            failure.trap(OSError)
            self._keys.revoke(question.name)
            return Answer(error=f"no key was made, for it could not be saved: {failure.getErrorMessage()}")

        return self._save(self._keys.kept).addCallbacks(kept, lost)

    @_answer.register
    def _revoke(self, question: Revoke, who: str) -> Deferred[Answer]:
        self._keys.revoke(question.name)
        self.log.info("{who} revokes the key {name}", who=who, name=question.name)

        def lost(failure: Failure) -> Answer:
            failure.trap(OSError)
            why = failure.getErrorMessage()
            return Answer(error=f"the key {question.name} is worth nothing until the next start only: not saved, {why}")

        done = Answer(done=f"the key {question.name} is worth nothing any more")
        return self._save(self._keys.kept).addCallbacks(lambda _: done, lost)

    @_answer.register
    def _connections(self, question: Connections, who: str) -> Deferred[Answer]:
        budgets = self._budgets
        every = sorted(budgets.accounts, key=lambda each: each.spent, reverse=True)[: question.most]
        crowd = Crowd(
            tuple(self._line(each) for each in every),
            len(budgets.accounts),
            budgets.refused,
            budgets.sent_away,
            round(budgets.pace.speed * 1000),
        )
        return succeed(Answer(crowd=crowd))

    def _line(self, account: Account) -> ConnectionLine:
        account.spend(0)  # as it is now, and not as it was when it last asked
        key = None if account.quota is None else account.quota.name
        since = self._budgets.seconds() - account.opened_at
        return ConnectionLine(
            account.host, account.way, key, round(since * 1000), round(account.spent), account.left,
            round(account.hold * 1000),
        )  # fmt: skip
