"""What the tests of the simulator's parts are made with: a scene without a run."""

from __future__ import annotations

from timeproto.sim.book import Book
from timeproto.sim.events import Events
from timeproto.sim.network import Parcel
from timeproto.sim.run import Plan, Run
from timeproto.sim.scene import Scene
from timeproto.sim.setting import setting
from timeproto.sim.tally import Tally
from timeproto.sim.trace import Trace


def make_scene(masternodes: int = 4, faulty: tuple[int, ...] = ()) -> Scene:
    genesis = setting(masternodes, 1).genesis
    events = Events()
    names = frozenset(genesis.masternode_set.keys[number] for number in faulty)
    return Scene(genesis, names, Book(genesis), events, Trace(events, keep=1_000), Tally())


def quiet_run(seed: int = 0, masternodes: int = 4, faults: str = "none") -> Run:
    """A run of which the test itself decides what happens, inside ``with run.world()``."""
    return Run(Plan(seed, masternodes, faults, actions=0, keep=1_000))


class Recorder:
    """Stands where the masternodes do: what a network delivers and tells."""

    def __init__(self) -> None:
        self.down: set[int] = set()
        self.got: list[tuple[int, int, Parcel]] = []
        self.links: list[tuple[str, int, int]] = []

    def is_up(self, number: int) -> bool:
        return number not in self.down

    def deliver(self, number: int, sender: int, parcel: Parcel) -> None:
        self.got.append((sender, number, parcel))

    def link_up(self, number: int, peer: int) -> None:
        self.links.append(("up", number, peer))

    def link_down(self, number: int, peer: int) -> None:
        self.links.append(("down", number, peer))
