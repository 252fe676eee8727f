"""``python -m timeproto.bench.probe STAMPS CONNECTIONS ARGUMENT…``: ``twistd ARGUMENT…`` with two things changed.

It serves up to CONNECTIONS wallets, from one host too, where a node has a bound (limits.CONNECTIONS). And when a
change set in which something became final is durable, it writes the moment (:func:`time.monotonic`, a float64) to the
file STAMPS: it is the same clock for every process of this machine, so a listener can tell how long ago that was.
"""

from __future__ import annotations

import os
import struct
import sys
import time

from timeproto import limits
from timeproto.bench.machine import allow_files
from timeproto.masternode import open_files
from timeproto.model.ledger import Changes
from timeproto.storage.rocks import RocksStore

STAMP = struct.Struct("<d")
SPARE = 200
"""Wallets that are let in beside those that are counted."""


def main(arguments: list[str]) -> None:
    stamps, connections, *rest = arguments
    descriptor = os.open(stamps, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    commit = RocksStore.commit

    def stamped(self: RocksStore, changes: Changes) -> None:
        commit(self, changes)
        if changes.finalized:
            os.write(descriptor, STAMP.pack(time.monotonic()))

    RocksStore.commit = stamped  # type: ignore[method-assign]
    # Read whenever a connection comes in, so that setting them here is in time.
    limits.CONNECTIONS = limits.CONNECTIONS_PER_BLOCK = int(connections)
    allow_files(open_files.needed(1, web=False))
    sys.argv = ["twistd", *rest]
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main(sys.argv[1:])
