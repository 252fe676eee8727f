"""Many connections at once: a node that can open no more files, and what comes and goes again and again."""

from __future__ import annotations

import os
import resource
import socket
import time
from typing import Any

from twisted.internet.threads import deferToThread

from tests.test_processes.harness import DevnetCase
from tests.test_processes.test_hostile import Raw
from timeproto.bench import kernel
from timeproto.wire import messages


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Crowds(DevnetCase):
    """One masternode, and sockets."""

    coins = 10

    async def begin(self) -> None:
        await self.start(1)
        self.address = self.devnet.addresses[0]
        pid = self.devnet.processes[0].pid
        assert pid is not None
        self.pid = pid

    def connect(self) -> socket.socket:
        host, _, port = self.address.partition(":")
        return socket.create_connection((host, int(port)), timeout=5)

    async def test_no_file_descriptors_left(self) -> None:
        """Who is here is served, nobody new is, no processor is burnt, and all is well when files are free (N-24)."""
        await self.begin()
        limits = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        await deferToThread(self._exhaust, limits)
        client = await self.client(1)
        await client.submit(self.transactions[1]).when_final()

    def _exhaust(self, limits: tuple[int, int]) -> None:
        here = Raw(self.address)
        self.assertEqual(here.say(messages.Ping(id=1)).read(), {"type": "Pong", "id": 1})
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (open_files(self.pid) + 5, limits[1]))
        others = [self.connect() for _ in range(30)]
        served = [each for each in others if _answers(each)]
        self.assertLess(len(served), len(others))
        self.assertEqual(here.say(messages.Ping(id=2)).read(), {"type": "Pong", "id": 2})
        before = kernel.cpu_seconds([self.pid])
        time.sleep(1.0)
        self.assertLess(kernel.cpu_seconds([self.pid]) - before, 0.5)
        for each in others:
            each.close()
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, limits)
        deadline = time.monotonic() + 20
        while not _answers(late := self.connect()):
            late.close()
            self.assertLess(time.monotonic(), deadline)
        late.close()
        here.socket.close()

    async def test_connecting_and_leaving_leaves_nothing(self) -> None:
        """Two thousand connections that came, some to speak and some not, and went (N-20; bench hostile has more)."""
        await self.begin()
        await deferToThread(self._come_and_go, 300)
        files, memory = open_files(self.pid), kernel.resident_bytes(self.pid)
        await deferToThread(self._come_and_go, 2_000)
        deadline = time.monotonic() + 20
        while open_files(self.pid) > files and time.monotonic() < deadline:
            await deferToThread(time.sleep, 0.1)
        self.assertLessEqual(open_files(self.pid), files)
        assert memory is not None
        self.assertLess(kernel.resident_bytes(self.pid) or 0, memory * 1.05 + 2**20)
        info = await self.devnet.info(1)
        assert info is not None
        self.assertEqual((info.wallets, info.subscriptions), (1, 0))

    def _come_and_go(self, times: int) -> None:
        subscribe = messages.UTXOSubscribe(id=1, subscriber_id="w", outpoints=(str(self.transactions[0].outpoints[0]),))
        for number in range(times):
            if number % 2:
                self.connect().close()
                continue
            raw = Raw(self.address).say(subscribe)
            if number % 4:
                raw.read()
            raw.socket.close()


def _answers(each: socket.socket) -> bool:
    """True if a ping comes back."""
    raw: Any = Raw.__new__(Raw)
    raw.socket = each
    each.settimeout(1.0)
    try:
        return raw.say(messages.Ping(id=9)).read() is not None
    except OSError:
        return False
