"""One run: safety while everything fails, then everything heals and all must be decided within a bound."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from timeproto.sim.book import Book
from timeproto.sim.bounds import excess
from timeproto.sim.checkers import Checkers
from timeproto.sim.conspiracy import Conspiracy
from timeproto.sim.disk import Disk
from timeproto.sim.events import MILLISECOND, SECOND, Events, stream
from timeproto.sim.faults import Faults, chosen
from timeproto.sim.liar import Liar
from timeproto.sim.masternode import Masternode
from timeproto.sim.network import Network, Parcel, Weather
from timeproto.sim.promises import Broken
from timeproto.sim.reckoning import Reckoning
from timeproto.sim.scene import Scene
from timeproto.sim.setting import setting
from timeproto.sim.signatures import Signatures, Signer
from timeproto.sim.tally import Tally
from timeproto.sim.tight import changed
from timeproto.sim.trace import Trace, short
from timeproto.sim.wallets import Wallets


@attrs.frozen
class Plan:
    """What one run is to be. ``faults`` as the command line has it; ``actions`` is how often wallets act in six
    seconds; ``seconds`` is the length of the first phase, None if chance draws it; ``keep`` are lines to be kept."""

    seed: int
    masternodes: int = 4
    faults: str = "all"
    actions: int = 6
    seconds: int | None = None
    keep: int = 0


@attrs.frozen
class Outcome:
    """``broken`` is None if every promise held. ``elapsed`` is virtual time in microseconds."""

    plan: Plan
    digest: str
    elapsed: int
    tally: Tally
    lines: tuple[str, ...]
    broken: Broken | None


PATIENCE = 120 * SECOND
"""After everything healed, all must be decided within this."""


class Run:
    """One network and all that happens to it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.events = Events()
        self.tally = Tally()
        self.trace = Trace(self.events, keep=plan.keep)
        self.signatures = Signatures()
        chance = stream(plan.seed, "plan")
        self.kinds = chosen(plan.faults, chance)
        self.setting = setting(plan.masternodes, chance.choice((1, 2, 2)))
        genesis = self.setting.genesis
        self.book = Book(genesis)
        self.faulty = self._draw_faulty(chance)
        names = frozenset(genesis.masternode_set.keys[number] for number in self.faulty)
        scene = Scene(genesis, names, self.book, self.events, self.trace, self.tally)
        signers = [Signer(key, self.signatures) for key in self.setting.masternodes]
        wallets = [Signer(key, self.signatures) for key in self.setting.wallets]
        self.wallets = Wallets(wallets, signers, self, scene, stream(plan.seed, "wallets"))
        self.checkers = Checkers(scene, self.wallets, self._latest)
        self.nodes = self._make_nodes(scene, signers)
        weather = Weather(wan="wan" in self.kinds)
        self.network = Network(scene, stream(plan.seed, "network"), weather, self)
        keys = {node.number: node.name for node in self.nodes}
        thought = chance.choice((2, 10, 10, 20)) * MILLISECOND
        for node in self.nodes:
            node.peers, node.network, node.thought = keys, self.network, thought
        amnesiac = self.nodes[self.faulty[0]] if self.faulty and "amnesia" in self.kinds else None
        self.faults = Faults(self.kinds, self, amnesiac, scene, stream(plan.seed, "faults"))
        self._chance = chance

    def _make_nodes(self, scene: Scene, signers: list[Signer]) -> list[Masternode]:
        seed = self.plan.seed
        liars = set(self.faulty[1:] if "amnesia" in self.kinds else self.faulty)
        shared = Conspiracy(self.book, stream(seed, "conspiracy"))
        disks, processes, lies = stream(seed, "disks"), stream(seed, "processes"), stream(seed, "lies")
        nodes: list[Masternode] = []
        for number, signer in enumerate(signers):
            disk = Disk(self.setting.founded, disks)
            if number in liars:
                liar = Liar(
                    number, signer, disk, scene, shared=shared, lies=lies, chance=processes, watch=self.checkers
                )
                nodes.append(liar)
            else:
                nodes.append(Masternode(number, signer, disk, scene, chance=processes, watch=self.checkers))
        return nodes

    def _draw_faulty(self, chance: random.Random) -> list[int]:
        most = (self.plan.masternodes - 1) // 3
        count = 1 if "amnesia" in self.kinds else 0
        if "byzantine" in self.kinds and most > count:
            count = chance.randint(count + 1, most)
        drawn = chance.sample(range(self.plan.masternodes), min(most, count))
        first = 1 % self.plan.masternodes  # who proposes the first block does more harm
        if drawn and first not in drawn and chance.random() < 0.5:
            drawn[-1] = first
        return drawn

    def _latest(self) -> int:
        return max(node.latest for node in self.honest)

    # -- who is there --------------------------------------------------------------------------------

    @property
    def honest(self) -> list[Masternode]:
        return [node for node in self.nodes if node.number not in self.faulty]

    @property
    def replicas(self) -> list[Masternode]:
        return self.nodes

    def is_up(self, number: int) -> bool:
        return self.nodes[number].alive

    def deliver(self, number: int, sender: int, parcel: Parcel) -> None:
        self.nodes[number].hear(parcel, sender)

    def link_up(self, number: int, peer: int) -> None:
        self.nodes[number].link_up(peer)

    def link_down(self, number: int, peer: int) -> None:
        self.nodes[number].link_down(peer)

    # -- the run -------------------------------------------------------------------------------------

    def execute(self) -> None:
        """All of it; raises :class:`Broken` at the first breach."""
        with self.world():
            self.start()
            until = (self.plan.seconds or self._chance.choice((2, 2, 2, 3, 3, 4, 8))) * SECOND
            self.faults.plan(until)
            hostile = "wallets" in self.kinds
            for _ in range(self.plan.actions * max(1, until // (6 * SECOND))):
                moment = self._chance.randint(200 * MILLISECOND, until * 3 // 4)
                self.events.at(moment, lambda: self.wallets.act(hostile=hostile))
            self.events.run_until(until)
            self.recover()

    @contextmanager
    def world(self) -> Iterator[None]:
        """What the parts below must run in: shared arithmetic, and the limits that this run has."""
        with self.signatures.shared(), changed(self.kinds):
            yield

    def start(self) -> None:
        """Everybody up, most of them linked from the first moment."""
        for node in self.nodes:
            node.start(at_once=self._chance.random() < 0.7)
        self._look()

    def recover(self) -> None:
        """The second phase: faults end, everything that is owed comes about, and at last all must add up."""
        self.faults.heal()
        reckoning = Reckoning(self)
        self._await(reckoning.undecided)
        reckoning.respend()
        self._await(reckoning.unmet)
        reckoning.conclude()

    def _look(self) -> None:
        """Memory is inside its bounds, every second: of one masternode after the other, since it takes long to look."""
        up = [node for node in self.honest if node.alive]
        if up:
            node = up[self.events.now // SECOND % len(up)]
            for complaint in excess(node):
                raise Broken(8, "L-7", f"{short(node.name)} keeps {complaint}")
        self.events.after(SECOND, self._look)

    def _await(self, owed: Callable[[], list[str]]) -> None:
        end = self.events.now + PATIENCE
        while unmet := owed():
            if self.events.now > end:
                raise Broken(7, "L-1", f"{PATIENCE // SECOND} s after everything healed: {'; '.join(unmet[:4])}")
            self.events.run_until(self.events.now + SECOND // 4)


def simulate(plan: Plan) -> Outcome:
    """One run from its seed to its outcome; a breach is part of the outcome, not an exception."""
    run = Run(plan)
    broken = None
    try:
        run.execute()
    except Broken as breach:
        broken = breach
    except Exception as error:  # with the seed it can be found; without it the hunt would only end
        where = "".join(traceback.format_exception(error)[-3:]).strip()
        broken = Broken(0, "L-8", f"the simulator failed: {where}")
    if broken is not None:
        run.trace.line(f"BROKEN {broken}")
    return Outcome(plan, run.trace.digest, run.events.now, run.tally, tuple(run.trace.lines), broken)
