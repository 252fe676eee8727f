"""The weather maker: draws from a seed which faults a run has, plans them over its first phase, and ends them all."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from timeproto.errors import ConfigurationError
from timeproto.sim.events import MILLISECOND, SECOND
from timeproto.sim.masternode import Clock, Fuse, Masternode, Moment
from timeproto.sim.network import Cut, Direction, Network
from timeproto.sim.scene import Scene

KINDS = (
    "loss", "duplicates", "reordering", "partitions", "clogs", "bandwidth", "wan", "tail",
    "crashes", "blackouts", "pauses", "disks", "clocks", "amnesia", "byzantine", "wallets", "limits", "haste",
)
"""What ``--faults`` may name. ``wallets`` stands for hostile ones, ``byzantine`` for masternodes that lie, ``limits``
for bounds so tight that pages are cut and caches overflow, ``haste`` for rounds that end before all have spoken."""

_LIKELY = {
    "wallets": 0.9, "byzantine": 0.6, "amnesia": 0.15, "blackouts": 0.2, "wan": 0.25, "limits": 0.3, "haste": 0.3,
}
"""How often "all" has a kind; two in five times of the others."""


def chosen(names: str, chance: random.Random) -> frozenset[str]:
    """``all`` is a mix that chance draws for each run, so that every combination comes up; ``none``; or a list."""
    if names == "none":
        return frozenset()
    if names == "all":
        return frozenset(kind for kind in KINDS if chance.random() < _LIKELY.get(kind, 0.4))
    return frozenset(check_names(names))


def check_names(names: str) -> list[str]:
    """The kinds in a list with commas; :class:`ConfigurationError` for one that does not exist."""
    listed = [name.strip() for name in names.split(",")]
    unknown = sorted(set(listed) - set(KINDS))
    if unknown:
        raise ConfigurationError(f"there is no fault called {unknown[0]!r}; there are: all, none, {', '.join(KINDS)}")
    return listed


class Town(Protocol):
    nodes: list[Masternode]
    network: Network

    @property
    def replicas(self) -> list[Masternode]:
        """The masternodes that run an honest replica, the amnesiac among them."""


class Faults:
    """Plans everything at the start; :meth:`heal` ends what still goes on."""

    def __init__(
        self, kinds: frozenset[str], town: Town, amnesiac: Masternode | None, scene: Scene, chance: random.Random
    ) -> None:
        self.healed = False
        self._kinds = kinds
        self._town = town
        self._amnesiac = amnesiac
        self._events, self._trace, self._tally = scene.events, scene.trace, scene.tally
        self._chance = chance

    def plan(self, until: int) -> None:
        """Spreads the faults of a run from its first second to ``until``."""
        weather = self._town.network.weather
        if "loss" in self._kinds:
            weather.loss = self._chance.choice((0.002, 0.02, 0.1))
            weather.silent = self._chance.random() < 0.5
        if "duplicates" in self._kinds:
            weather.duplicates = self._chance.choice((0.02, 0.1))
        if "reordering" in self._kinds:
            weather.reorders = True
            self._tally.fault("reordering")
        if "tail" in self._kinds:
            weather.tail = 0.01
        if "clocks" in self._kinds:
            for node in self._town.nodes:
                minutes = self._chance.choice((0, 0, 5, 1))
                node.clock = Clock(
                    self._chance.randint(-minutes * 60_000, minutes * 60_000), self._chance.randint(-200, 200)
                )
                self._tally.fault("clock off" if minutes else "clock drifts")
        makers: dict[str, tuple[Callable[[int], None], int]] = {
            "partitions": (self._partition, 2),
            "clogs": (self._clog, 2),
            "bandwidth": (self._narrow, 1),
            "crashes": (self._crash, 4),
            "blackouts": (self._blackout, 1),
            "pauses": (self._pause, 2),
            "disks": (self._slow_disk, 2),
            "clocks": (self._jump, 3),
        }
        alone = {"partitions", "clogs", "bandwidth"} if len(self._town.nodes) < 2 else set()
        for kind, (maker, most) in makers.items():
            if kind in self._kinds - alone:
                for _ in range(self._chance.randint(1, most)):
                    self._events.at(self._chance.randint(0, until), self._unless_healed, maker, until)
        if self._amnesiac is not None:
            self._plan_amnesia(self._amnesiac, until)

    def _unless_healed(self, maker: Callable[[int], None], until: int) -> None:
        if not self.healed:
            maker(until)

    def _later(self, least: int, most: int, what: Callable[[], None]) -> None:
        """In so many milliseconds, unless everything is healed before."""
        self._events.after(
            self._chance.randint(least, most) * MILLISECOND, lambda: None if self.healed else what()
        )

    def heal(self) -> None:
        """Everything up, every link whole; clocks stay as they are."""
        self.healed = True
        self._trace.note("-- all faults end --")
        self._town.network.heal()
        for node in self._town.nodes:
            node.fuse = None
            node.disk.slow = 1
            if node.alive and node.paused:
                node.go_on()
            if not node.alive and not node.expelled:
                node.start()

    # -- the network ---------------------------------------------------------------------------------

    def _partition(self, until: int) -> None:
        shapes = self._halves, self._halves, self._ring, self._bridge, self._one_way, self._isolate, self._flap
        self._chance.choice(shapes)()

    def _halves(self) -> None:
        numbers = self._shuffled()
        size = self._chance.choice((self._chance.randint(1, len(numbers) - 1), len(numbers) // 2))
        left, right = numbers[:size], numbers[size:]
        both = self._town.network.between
        self._cut("partition", f"{left} | {right}", [*both(left, right), *both(right, left)])
        quorum = 2 * len(numbers) // 3 + 1
        if max(len(left), len(right)) < quorum:
            self._tally.saw("no quorum connected")

    def _ring(self) -> None:
        """Everybody sees a majority, and no two the same."""
        numbers = self._shuffled()
        n = len(numbers)
        reach = max(1, n // 3)
        hidden = [
            (numbers[a], numbers[b]) for a in range(n) for b in range(n)
            if a != b and min((a - b) % n, (b - a) % n) > reach
        ]
        self._cut("ring of majorities", str(numbers), hidden)

    def _bridge(self) -> None:
        """Two halves, and one masternode that sees both."""
        numbers = self._shuffled()
        half = len(numbers) // 2
        left, right = numbers[:half], numbers[half + 1 :]
        both = self._town.network.between
        self._cut("bridge", f"{left} {numbers[half]} {right}", [*both(left, right), *both(right, left)])

    def _one_way(self) -> None:
        numbers = self._shuffled()
        size = self._chance.randint(1, len(numbers) - 1)
        directions = self._town.network.between(numbers[:size], numbers[size:])
        self._cut("one-way partition", f"{numbers[:size]} → {numbers[size:]}", list(directions), ("drop", "hold"))

    def _isolate(self) -> None:
        """Cuts off whoever the others wait for."""
        number = self._whose_turn()
        others = [each for each in range(len(self._town.nodes)) if each != number]
        both = self._town.network.between
        self._cut("isolation", str(number), [*both([number], others), *both(others, [number])])

    def _whose_turn(self) -> int:
        """The proposer of the round that somebody is in."""
        up = [node for node in self._town.nodes if node.alive]
        if not up:
            return 0
        self._tally.saw("proposer isolated")
        agreement = self._chance.choice(up).replica._agreement
        return (agreement.height + agreement.round) % len(self._town.nodes)

    def _flap(self) -> None:
        """One link goes up and down."""
        link = self._chance.choice(self._town.network.links)
        self._tally.fault("flapping link")
        for number in range(self._chance.randint(3, 8)):
            self._events.after(number * SECOND, lambda: None if self.healed else self._town.network.sever(link))

    def _cut(
        self, what: str, how: str, directions: list[Direction], cuts: tuple[Cut, ...] = ("drop", "break", "hold")
    ) -> None:
        cut = self._chance.choice(cuts)
        self._tally.fault(what)
        self._trace.note(f"-- {what} ({cut}): {how}")
        network = self._town.network
        network.cut(directions, cut)

        def end() -> None:
            self._trace.note(f"-- {what} ends")
            network.uncut(directions, cut)

        self._later(300, 5_000, end)

    def _clog(self, until: int) -> None:
        """The links of some stop one by one, and start again in another order."""
        network = self._town.network
        some = self._shuffled()[: self._chance.randint(1, max(1, len(self._town.nodes) // 2))]
        directions = [each for each in network.wires if each[0] in some or each[1] in some]
        self._tally.fault("clog")
        for direction in directions:

            def clog(direction: Direction = direction) -> None:
                network.cut([direction], "hold")
                self._later(200, 3_000, lambda: network.uncut([direction], "hold"))

            self._later(0, 1_500, clog)

    def _narrow(self, until: int) -> None:
        """A few links become slow: 1 to 32 bytes a millisecond."""
        for direction in self._chance.sample(sorted(self._town.network.wires), 2):
            self._town.network.wires[direction].rate = self._chance.choice((1, 8, 32))
            self._tally.fault("narrow link")

    # -- processes, disks, clocks --------------------------------------------------------------------

    def _crash(self, until: int) -> None:
        up = [node for node in self._town.nodes if node.alive]
        if not up:
            return
        node = self._chance.choice(up)
        if self._chance.random() < 0.6:
            self._tally.fault("crash at a commit")
            node.fuse = Fuse(self._chance.randint(1, 4), self._chance.choice(list(Moment)))
        else:
            self._tally.fault("crash")
            if node.replica.not_voting is not None:
                self._tally.saw("crash in recovery")
            node.kill(noticed=self._chance.random() < 0.8)
        self._later(50, 4_000, lambda: self._restart(node))

    def _restart(self, node: Masternode) -> None:
        if not node.alive and not node.expelled:
            node.start()
            if self._chance.random() < 0.3:  # and again before it is ready
                self._later(0, 900, lambda: self._crash_again(node))

    def _crash_again(self, node: Masternode) -> None:
        if node.alive:
            if node.replica.not_voting is not None:
                self._tally.saw("crash in recovery")
            self._tally.fault("crash after a restart")
            node.kill()
            self._later(50, 1_000, lambda: self._restart(node))

    def _blackout(self, until: int) -> None:
        """Everybody at once."""
        self._tally.fault("blackout")
        for node in self._town.nodes:
            node.kill(noticed=False)
            self._later(100, 2_000, lambda node=node: self._restart(node))  # type: ignore[misc]
        self._tally.saw("all down at once")

    def _pause(self, until: int) -> None:
        node = self._chance.choice(self._town.nodes)
        if node.alive and not node.paused:
            self._tally.fault("pause")
            self._trace.note(f"-- {node.number} is stopped")
            node.pause()
            if self._chance.random() < 0.6:  # otherwise until everything heals
                self._later(200, 6_000, lambda: self._go_on(node))

    def _go_on(self, node: Masternode) -> None:
        if node.alive and node.paused:
            self._trace.note(f"-- {node.number} goes on")
            node.go_on()

    def _slow_disk(self, until: int) -> None:
        node = self._chance.choice(self._town.nodes)
        self._tally.fault("slow disk")
        node.disk.slow = self._chance.choice((10, 100))

        def end() -> None:
            node.disk.slow = 1

        self._later(500, 4_000, end)

    def _jump(self, until: int) -> None:
        node = self._chance.choice(self._town.nodes)
        self._tally.fault("clock jump")
        node.clock.offset += self._chance.choice((-300_000, -5_000, 5_000, 300_000))

    def _plan_amnesia(self, node: Masternode, until: int) -> None:
        """A backup is made, and after more has been signed it is all that is left."""
        made = self._chance.randint(0, until // 2)
        self._events.at(made, node.disk.back_up)

        def lose() -> None:
            if not self.healed:
                self._tally.fault("old backup restored")
                self._trace.note(f"-- {node.number} is restored from an old backup")
                node.kill()
                node.disk.restore_backup()
                node.start()

        self._events.at(self._chance.randint(made, until), lose)

    def _shuffled(self) -> list[int]:
        numbers = list(range(len(self._town.nodes)))
        self._chance.shuffle(numbers)
        return numbers
