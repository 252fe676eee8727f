"""Many connections at once: a node that can open no more files, and what comes and goes again and again."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from typing import Any

from twisted.internet.threads import deferToThread

from tests.test_processes.harness import DevnetCase
from tests.test_processes.test_hostile import Raw
from timeproto.bench import kernel
from timeproto.bench.crowd import Crowd
from timeproto.bench.frames import frame
from timeproto.network.discovery import parse_address
from timeproto.wire import codec, messages

WALLETS = 1_000


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

    async def test_a_thousand_wallets_return_at_once(self) -> None:
        """A killed node comes back, and all at once take up where they were, while a payment goes on (N-19)."""
        await self.begin()
        client = await self.client(1)
        await client.submit(self.transactions[0]).when_final()
        _, port = parse_address(self.address)
        cursors = await deferToThread(self._gather, port, None)
        self.assertEqual(len(cursors), WALLETS)
        process = self.devnet.processes[0]
        process.signal(signal.SIGKILL)
        await process.when_ended()
        self.devnet.restart(1)
        await self.devnet.meshed()
        returning = deferToThread(self._gather, port, cursors[0])
        await client.submit(self.transactions[1], again=True).when_final()
        self.assertEqual(len(await returning), WALLETS)

    def _gather(self, port: int, since: messages.Cursor | None) -> list[messages.Cursor]:
        """Connects ``WALLETS`` as fast as they are let in; each subscribes, and is told where it is and not reset."""
        heard: list[messages.Cursor] = []

        def answered(data: bytes) -> bool:
            if len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
                return False
            reply = codec.decode(data[4 : 4 + int.from_bytes(data[:4], "big")])
            assert isinstance(reply, messages.UTXOSubscribed) and reply.cursor is not None and not reply.reset, reply
            heard.append(reply.cursor)
            return True

        address = self.transactions[0].outputs[0].address
        subscribe = messages.UTXOSubscribe(id=1, subscriber_id="w", addresses=(address,), ttl_ms=60_000, since=since)
        with Crowd(port, WALLETS) as crowd:
            crowd.gather(lambda number: frame(codec.encode(subscribe)), answered, lambda share: None)
        return heard

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
