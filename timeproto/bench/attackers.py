"""``python -m timeproto.bench.attackers``: a hostile crowd, in a process of its own: deaf, flooding, and worse.

On the standard library's loop, so that it has nothing in common with what it attacks. Every attacker comes from an
address of its own on the loopback, and comes back as soon as it is thrown out. Commands (see bench.helper): the first
line says who comes and against whom, and is answered when they are there; ``report`` tells what they have done so far.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import attrs

from timeproto.bench import weapons
from timeproto.bench.helper import say
from timeproto.bench.listeners import greeting, trusting
from timeproto.bench.machine import allow_files
from timeproto.errors import ConfigurationError
from timeproto.masternode.config import read_genesis
from timeproto.model.genesis import Genesis

SPARE = 100
ARRIVAL = 30.0
"""Seconds until the crowd counts as there, even if some have not got in."""
DRIP = 0.5
"""Seconds between two bytes of those who drip."""
AGAIN = 0.2
"""Seconds before somebody who was thrown out comes back: less would measure this process."""
ASKED = 200
"""Questions that a deaf one sends at once."""
SMALL = 4_096
"""Receive buffer of those who do not read."""


@attrs.frozen
class Target:
    """``web`` is None for a node without a web port; ``addresses`` are watched by honest wallets too."""

    port: int
    web: int | None
    addresses: tuple[str, ...]
    genesis: Genesis
    context: ssl.SSLContext


class Crowd:
    """``told`` counts, by kind of attacker: connections, bytes sent, and ends."""

    def __init__(self, target: Target, size: int) -> None:
        self._target = target
        self._size = size
        self.told: Counter[str] = Counter()
        self.here: set[str] = set()
        self.all_here = asyncio.Event()
        self._hello = weapons.client_hello(target.context)
        self._floods = weapons.floods(target.genesis, target.addresses)
        self._nonsense = cycle(weapons.garbage().items())

    def attackers(self, kind: str, count: int) -> Iterator[Awaitable[None]]:
        act: Callable[[int, str], Awaitable[None]] = getattr(self, f"_{kind}")
        for number in range(count):
            yield self._keep_at_it(kind, act, number)

    async def _keep_at_it(self, kind: str, act: Callable[[int, str], Awaitable[None]], number: int) -> None:
        source = weapons.source_of(kind, number)
        await asyncio.sleep(number % 50 / 50)
        while True:
            with suppress(OSError, EOFError, TimeoutError):
                await act(number, source)
            self.told[f"{kind} ends"] += 1
            await asyncio.sleep(AGAIN)

    # -- connections ---------------------------------------------------------------------------------

    async def _tcp(self, kind: str, source: str, port: int | None = None, small: bool = False) -> socket.socket:
        each = socket.socket()
        try:
            each.setblocking(False)
            if small:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            each.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(each, ("127.0.0.1", port or self._target.port))
        except BaseException:
            each.close()
            raise
        self.told[f"{kind} connections"] += 1
        self.here.add(source)
        if len(self.here) == self._size:
            self.all_here.set()
        return each

    async def _tls(
        self, kind: str, source: str, port: int | None = None, small: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        each = await self._tcp(kind, source, port, small)
        try:
            return await asyncio.open_connection(sock=each, ssl=self._target.context, server_hostname="")
        except BaseException:
            each.close()
            raise

    async def _write(self, kind: str, writer: asyncio.StreamWriter, data: bytes) -> None:
        if writer.is_closing():  # asyncio's TLS would go on writing to nobody
            raise EOFError
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)
        self.told[f"{kind} bytes"] += len(data)

    # -- kinds ---------------------------------------------------------------------------------------

    async def _deaf(self, number: int, source: str) -> None:
        """Subscribes like everybody, asks for long answers, or says nothing more, and never reads."""
        _, writer = await self._tls("deaf", source, small=True)
        try:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await self._write("deaf", writer, greeting(number, list(self._target.addresses)))
            asked = self._floods["pages"] * ASKED
            while number % 2:
                await self._write("deaf", writer, asked)
            await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _flooding(self, number: int, source: str) -> None:
        """Sends what is allowed as fast as it is taken, and reads what comes back."""
        kinds = [*self._floods, *(["http"] if self._target.web is not None else [])]
        kind = kinds[number % len(kinds)]
        port = self._target.web if kind == "http" else None
        data = weapons.HTTP_FLOOD if kind == "http" else self._floods[kind]
        reader, writer = await self._tls("flooding", source, port)
        reading = asyncio.ensure_future(_swallow(reader))
        try:
            while not reading.done():
                await self._write("flooding", writer, data)
        finally:
            reading.cancel()
            writer.transport.abort()

    async def _garbage(self, number: int, source: str) -> None:
        """Nonsense, and then waits to be thrown out."""
        name, (is_tls, data) = next(self._nonsense)
        port = self._target.web if name.startswith("http") else None
        if is_tls:
            reader, writer = await self._tls("garbage", source, port)
        else:
            reader, writer = await asyncio.open_connection(sock=await self._tcp("garbage", source, port))
        try:
            await self._write("garbage", writer, data)
            await _swallow(reader)
        finally:
            writer.transport.abort()

    async def _half_open(self, number: int, source: str) -> None:
        """A TCP connection, no or half or one whole ClientHello, and nothing more."""
        said = (b"", self._hello[: len(self._hello) // 2], self._hello)[number % 3]
        reader, writer = await asyncio.open_connection(sock=await self._tcp("half_open", source))
        try:
            writer.write(said)
            await _swallow(reader)
        finally:
            writer.transport.abort()

    async def _slow(self, number: int, source: str) -> None:
        """A byte now and then: of a ClientHello, of a frame, of a request to the web port, of its body."""
        drips = weapons.drips(self._hello, web=self._target.web is not None)
        is_tls, is_web, data = drips[number % len(drips)]
        port = self._target.web if is_web else None
        if is_tls:
            reader, writer = await self._tls("slow", source, port)
        else:
            reader, writer = await asyncio.open_connection(sock=await self._tcp("slow", source, port))
        reading = asyncio.ensure_future(_swallow(reader))
        try:
            for at in range(len(data)):
                if reading.done():
                    break
                await self._write("slow", writer, data[at : at + 1])
                await asyncio.sleep(DRIP)
        finally:
            reading.cancel()
            writer.transport.abort()


async def _swallow(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 18):
        pass


async def attack(told: dict[str, Any]) -> None:
    kinds = {name: int(count) for name, count in told["kinds"].items()}
    genesis = read_genesis(Path(told["genesis"]))
    target = Target(told["port"], told["web"], tuple(told["addresses"]), genesis, trusting())
    crowd = Crowd(target, sum(kinds.values()))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # transports that are cut in the middle of anything
    running = [
        asyncio.ensure_future(each) for name, count in kinds.items() for each in crowd.attackers(name, count)
    ]
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    with suppress(TimeoutError):
        async with asyncio.timeout(ARRIVAL):
            await crowd.all_here.wait()
    say({"arrived": len(crowd.here)})
    while await commands.readline():
        say(dict(crowd.told))
    for each in running:
        each.cancel()


def main() -> None:
    told = json.loads(sys.stdin.buffer.readline())
    size = sum(int(count) for count in told["kinds"].values())
    if allow_files(size + SPARE) < size + SPARE:
        raise ConfigurationError(f"{size} attackers need more open files than are allowed (ulimit -n)")
    asyncio.run(attack(told))


if __name__ == "__main__":
    main()
