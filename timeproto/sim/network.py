"""The network between masternodes: how long a message takes, whether it comes at all, and who believes to be linked.

Messages cross as bytes. A link that loses one breaks and comes up again, as TCP's do; in a hostile network it loses
them silently, out of order and twice, and both ends go on believing in it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol

import attrs

from timeproto.sim.events import MILLISECOND, SECOND
from timeproto.sim.scene import Scene
from timeproto.sim.trace import describe
from timeproto.wire import codec

Direction = tuple[int, int]
"""From masternode to masternode, by number."""

Cut = Literal["drop", "break", "hold"]
"""Messages vanish; the link breaks and stays down; messages wait."""


class Parcel:
    """One message under way: encoded once for all who get it, decoded once by the first who opens it."""

    __slots__ = ("_message", "mark", "payload")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.mark = hashlib.blake2b(payload, digest_size=8).digest()
        self._message: Any = None

    @property
    def message(self) -> Any:
        """What the receiver's codec makes of the bytes; raises :class:`timeproto.errors.Refusal`."""
        if self._message is None:
            self._message = codec.decode(self.payload)
        return self._message


class Post:
    """Wraps messages; equal bytes are one parcel, however often they are said."""

    def __init__(self) -> None:
        self._parcels: dict[bytes, Parcel] = {}

    def parcel(self, message: Any) -> Parcel:
        payload = codec.encode(message)
        parcel = self._parcels.get(payload)
        if parcel is None:
            parcel = self._parcels[payload] = Parcel(payload)
        return parcel


class Ends(Protocol):
    """What the network tells the masternodes, by number."""

    def is_up(self, number: int) -> bool: ...

    def deliver(self, number: int, sender: int, parcel: Parcel) -> None: ...

    def link_up(self, number: int, peer: int) -> None: ...

    def link_down(self, number: int, peer: int) -> None: ...


@attrs.define(eq=False)
class Wire:
    """One direction of a link. ``rate`` is in bytes for each millisecond, 0 for no bound."""

    sender: int
    receiver: int
    link: Link
    base: int
    jitter: int
    mark: bytes
    drops: int = 0
    holds: int = 0
    rate: int = 0
    free_at: int = 0
    last: int = 0
    held: list[Parcel] = attrs.field(factory=list)


@attrs.define(eq=False)
class Link:
    """Two masternodes. ``believed`` are those who think that it is up; ``damaged``: it lost something silently.

    ``last_words`` are of a process that was killed (number, epoch): its kernel still sends what it was given.
    """

    ends: tuple[int, int]
    up: bool = False
    epoch: int = 0
    damaged: bool = False
    believed: set[int] = attrs.field(factory=set)
    last_words: tuple[int, int] | None = None


@attrs.define
class Weather:
    """What happens to any message. Probabilities, and whether losses are silent and order is kept."""

    wan: bool = False
    loss: float = 0.0
    silent: bool = False
    duplicates: float = 0.0
    reorders: bool = False
    tail: float = 0.0


class Network:
    def __init__(self, scene: Scene, chance: random.Random, weather: Weather, ends: Ends) -> None:
        n = len(scene.genesis.masternodes)
        self.weather = weather
        self.office = Post()
        self._events, self._trace, self._tally = scene.events, scene.trace, scene.tally
        self._chance = chance
        self._ends = ends
        self.links = [Link((a, b)) for a in range(n) for b in range(a + 1, n)]
        self.wires: dict[Direction, Wire] = {}
        self._by_node: list[list[Link]] = [[] for _ in range(n)]
        for link in self.links:
            base, jitter = self._latency()
            for a, b in (link.ends, link.ends[::-1]):
                self.wires[a, b] = Wire(a, b, link, base, jitter, b"%d>%d" % (a, b))
                self._by_node[a].append(link)

    def _latency(self) -> tuple[int, int]:
        if self.weather.wan:
            return self._chance.randint(30 * MILLISECOND, 150 * MILLISECOND), 10 * MILLISECOND
        return 100, 1_900

    # -- messages ------------------------------------------------------------------------------------

    def post(self, sender: int, receiver: int, parcel: Parcel) -> None:
        wire = self.wires[sender, receiver]
        link, weather, chance = wire.link, self.weather, self._chance
        if not link.up:
            return
        if wire.drops:
            self._lose(link, "dropped")
            return
        if weather.loss and chance.random() < weather.loss:
            self._tally.fault("lost message")
            if weather.silent:
                self._lose(link, "lost")
            else:
                self.sever(link)
            return
        delay = wire.base + int(chance.random() * wire.jitter)
        if weather.tail and chance.random() < weather.tail:
            delay += int(1.5 * SECOND)
            self._tally.fault("late message")
        now = self._events.now
        if wire.rate:
            wire.free_at = max(wire.free_at, now) + len(parcel.payload) * MILLISECOND // wire.rate
            delay += wire.free_at - now
        if weather.reorders:
            delay += int(chance.random() * 20 * MILLISECOND)
        else:
            delay = max(delay, wire.last - now)
            wire.last = now + delay
        self._events.after(delay, self._arrive, wire, link.epoch, parcel)
        if weather.duplicates and chance.random() < weather.duplicates:
            for _ in range(chance.randint(1, 49) if chance.random() < 0.03 else 1):
                self._tally.fault("duplicate")
                self._events.after(delay + int(chance.random() ** 3 * 3 * SECOND), self._arrive, wire, None, parcel)

    def _arrive(self, wire: Wire, epoch: int | None, parcel: Parcel) -> None:
        """``epoch`` is None for a copy that the network kept: it comes whatever became of the link since."""
        link = wire.link
        if epoch is None:
            if wire.receiver not in link.believed:
                return
        elif epoch != link.epoch and (wire.sender, epoch) != link.last_words:
            return
        if wire.drops:
            self._lose(link, "dropped")
        elif wire.holds:
            wire.held.append(parcel)
        else:
            self._hand_over(wire, parcel)

    def _hand_over(self, wire: Wire, parcel: Parcel) -> None:
        if not self._ends.is_up(wire.receiver):
            return
        self._trace.mark(wire.mark, parcel.mark)
        if self._trace.keeps:
            self._trace.line(f"{wire.sender} → {wire.receiver}  {_described(parcel)}")
        self._ends.deliver(wire.receiver, wire.sender, parcel)

    def _lose(self, link: Link, how: str) -> None:
        self._tally.fault(f"message {how} silently")
        link.damaged = True

    # -- links ---------------------------------------------------------------------------------------

    def sever(self, link: Link) -> None:
        """The link breaks, what is under way on it is lost, and each end notices in its own time."""
        if not link.up:
            return
        self._down(link)
        for end in link.ends:
            self._events.after(self._chance.randint(0, 200 * MILLISECOND), self._notice, link, link.epoch, end)
        self._events.after(self._chance.randint(200, 1_500) * MILLISECOND, self._reconnect, link)

    def _down(self, link: Link) -> None:
        self._tally.fault("broken link")
        link.up = False
        link.epoch += 1
        for a, b in (link.ends, link.ends[::-1]):
            self.wires[a, b].held.clear()

    def _notice(self, link: Link, epoch: int, end: int) -> None:
        if epoch == link.epoch:
            self._disbelieve(link, end)

    def _disbelieve(self, link: Link, end: int) -> None:
        if end in link.believed:
            link.believed.discard(end)
            self._ends.link_down(end, _other(link, end))

    def _reconnect(self, link: Link) -> None:
        a, b = link.ends
        if link.up or not (self._ends.is_up(a) and self._ends.is_up(b)):
            return  # who comes up dials
        if self.wires[a, b].drops or self.wires[b, a].drops:
            self._events.after(self._chance.randint(500, 2_000) * MILLISECOND, self._reconnect, link)
            return
        for end in link.ends:
            self._disbelieve(link, end)
        link.up, link.damaged, link.last_words = True, False, None
        link.epoch += 1
        for end in link.ends:
            self.wires[end, _other(link, end)].last = 0
            link.believed.add(end)
            self._ends.link_up(end, _other(link, end))

    def node_up(self, number: int, *, at_once: bool = False) -> None:
        """A masternode has started: it and its peers dial each other."""
        for link in self._by_node[number]:
            delay = 0 if at_once else self._chance.randint(20, 500) * MILLISECOND
            self._events.after(delay, self._reconnect, link)

    def node_down(self, number: int, *, noticed: bool = True) -> None:
        """A masternode is gone; ``noticed``: its kernel is there, sends what it has, and says so to its peers."""
        for link in self._by_node[number]:
            link.believed.discard(number)
            if link.up:
                link.last_words = (number, link.epoch) if noticed else None
                self._down(link)
            if noticed:
                peer = _other(link, number)
                self._events.after(self._chance.randint(0, 300) * MILLISECOND, self._notice, link, link.epoch, peer)

    # -- faults --------------------------------------------------------------------------------------

    def cut(self, directions: Iterable[Direction], how: Cut) -> list[Direction]:
        """Until :meth:`uncut` with the same arguments nothing comes through. Cuts may overlap."""
        cut = list(directions)
        for direction in cut:
            wire = self.wires[direction]
            if how == "hold":
                wire.holds += 1
            else:
                wire.drops += 1
                if how == "break":
                    self.sever(wire.link)
        return cut

    def uncut(self, directions: Iterable[Direction], how: Cut) -> None:
        for direction in directions:
            wire = self.wires[direction]
            if how == "hold":
                wire.holds -= 1
                if not wire.holds:
                    self._release(wire)
            else:
                wire.drops -= 1
                if not wire.drops and wire.link.damaged and self._chance.random() < 0.5:
                    self.sever(wire.link)  # what TCP could not deliver in time ends the connection

    def _release(self, wire: Wire) -> None:
        held, wire.held = wire.held, []
        for parcel in held:
            self._hand_over(wire, parcel)

    def heal(self) -> None:
        """Whole again: nothing is lost any more, and a link that lost something, or was so slow that half an hour of
        messages may wait on it, is made anew."""
        self.weather.loss = self.weather.duplicates = self.weather.tail = 0.0
        self.weather.reorders = self.weather.silent = False
        for wire in self.wires.values():
            wire.link.damaged |= wire.rate > 0
            wire.drops = wire.rate = wire.free_at = 0
            if wire.holds:
                wire.holds = 0
                self._release(wire)
        for link in self.links:
            if link.damaged and link.up:
                self._down(link)
            self._reconnect(link)

    def between(self, some: Iterable[int], others: Iterable[int]) -> Iterator[Direction]:
        """Every direction from one of ``some`` to one of ``others``."""
        targets = list(others)
        for a in some:
            for b in targets:
                if a != b:
                    yield a, b


def _other(link: Link, end: int) -> int:
    a, b = link.ends
    return b if end == a else a


def _described(parcel: Parcel) -> str:
    try:
        return describe(parcel.message)
    except Exception as error:
        return f"{parcel.payload[:60]!r} ({error})"
