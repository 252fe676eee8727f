"""What every part of a run shares."""

from __future__ import annotations

import attrs

from timeproto.model.genesis import Genesis
from timeproto.sim.book import Book
from timeproto.sim.events import Events
from timeproto.sim.tally import Tally
from timeproto.sim.trace import Trace


@attrs.frozen
class Scene:
    """``faulty`` are the keys of the masternodes that may do anything: at most f."""

    genesis: Genesis
    faulty: frozenset[str]
    book: Book
    events: Events
    trace: Trace
    tally: Tally
