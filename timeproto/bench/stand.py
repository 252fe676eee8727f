"""A devnet to measure on: its folder, its processes, a purse and the connections that payments leave by.

It serves one load after another, and is made anew when a load was too much for it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import attrs

from timeproto.bench import kernel
from timeproto.bench.load import Load, Outcome, node_pids
from timeproto.bench.payments import Purse
from timeproto.bench.progress import Progress
from timeproto.devnet.layout import WALLETS, Layout, lay_out
from timeproto.devnet.processes import Devnet

WARM_UP = (30.0, 1.0)
"""Rate and seconds of the payments that go ahead of the first load and are not counted."""
COINS_PER_SECOND = 2_000
"""Coins of the genesis that a node founds in a second, on a machine that is slow or busy."""


@attrs.frozen
class Setting:
    """What is unusual about a devnet and its load.

    ``web_port``: the first node's, the others' follow. ``receivers``: addresses that are paid in turn. ``at``: the
    node, from 1, that every payment goes to, however late it is; whether the nodes agree is then asked by
    :meth:`Stand.agree`, since it may be attacked.
    """

    tls: bool = False
    web_port: int | None = None
    receivers: int = 1
    at: int | None = None


class Stand:
    """``coins`` is the most payments of one load. Closing it stops and removes everything."""

    def __init__(
        self,
        reactor: Any,
        masternodes: int,
        coins: int,
        base_port: int,
        progress: Progress,
        *,
        setting: Setting | None = None,
    ) -> None:
        self._reactor = reactor
        self._masternodes = masternodes
        self._coins = max(coins, round(WARM_UP[0] * WARM_UP[1]))
        self._base_port = base_port
        self._progress = progress
        self._setting = setting or Setting()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._layout: Layout | None = None
        self._devnet: Devnet | None = None
        self._load: Load | None = None
        self._purse: Purse | None = None

    @property
    def devnet(self) -> Devnet:
        if self._devnet is None:
            raise RuntimeError("the stand is not open")
        return self._devnet

    @property
    def purse(self) -> Purse:
        if self._purse is None:
            raise RuntimeError("the stand is not open")
        return self._purse

    @property
    def pids(self) -> list[int]:
        return [] if self._devnet is None else node_pids(self._devnet)

    def lay_out(self) -> Layout:
        """The folder, with nothing started in it."""
        if self._layout is None:
            self._folder = tempfile.TemporaryDirectory(prefix="timeproto-bench-")
            self._layout = lay_out(
                Path(self._folder.name),
                self._masternodes,
                self._base_port,
                tls=self._setting.tls,
                log_level="warn",
                coins_per_wallet=-(-self._coins // len(WALLETS)),
                web_port=self._setting.web_port,
            )
        return self._layout

    async def open(self) -> None:
        """Starts the nodes, connects, and warms up."""
        self._progress.stage(f"{self._masternodes} masternodes start")
        layout = self.lay_out()
        self._devnet = Devnet(self._reactor, layout)
        await self._devnet.start(patience=60 + self._coins * self._masternodes / COINS_PER_SECOND)
        self._purse = Purse(layout, self._setting.receivers)
        at = self._setting.at
        self._load = Load(self._reactor, self._devnet, self._purse.receiver, at=at, patient=at is not None)
        await self._load.connect()
        await self._run(*WARM_UP)

    async def measure(self, rate: float, seconds: float) -> Outcome:
        """One load, of ``seconds`` or for as long as the coins last; on a new devnet if there is none."""
        if self._load is None:
            await self.open()
        outcome = await self._run(rate, seconds)
        if not outcome.agree:
            await self.close()
        return outcome

    async def agree(self) -> bool:
        """True if all nodes come to one digest, with nothing in flight, within a few seconds."""
        return self._load is not None and await self._load.agree()

    async def _run(self, rate: float, seconds: float) -> Outcome:
        if self._load is None:
            raise RuntimeError("the stand is not open")
        count = max(1, min(round(rate * seconds), len(self.purse)))
        self._progress.stage(f"{self._masternodes} masternodes, {count} payments at {rate:g}/s")
        payments = self.purse.payments(count)
        outcome = await self._load.run(payments, rate, self._progress.show)
        self.purse.take_back(payments)
        return outcome

    def memory_mb(self) -> float | None:
        """The largest node's, now."""
        sizes = [size for pid in self.pids if (size := kernel.resident_bytes(pid)) is not None]
        return round(max(sizes) / 2**20, 1) if sizes else None

    async def close(self) -> None:
        load, devnet, folder = self._load, self._devnet, self._folder
        self._load = self._devnet = self._folder = self._layout = None
        try:
            if load is not None:
                load.close()
            if devnet is not None:
                await devnet.stop()
        finally:
            if folder is not None:
                folder.cleanup()
