"""``python -m timeproto.bench.listeners``: honest wallets that watch, read and answer pings, in a process of its own.

Commands (see bench.helper): ``gather`` connects and subscribes everybody, ``begin`` forgets what was heard so far,
``report`` tells what was heard since. A notification's delay is from the step of the node that tells it, to a
millisecond, to the wallet. One epoll and no reactor: whoever hears must cost little.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
import time
from typing import Any

from timeproto.bench.crowd import Crowd
from timeproto.bench.frames import PONG, cut, frame, is_ping
from timeproto.bench.helper import say
from timeproto.bench.machine import allow_files
from timeproto.errors import ConfigurationError
from timeproto.wire import codec, messages

SPARE = 100
"""Files of this process beside its sockets."""
READ = 1 << 16
_TIMESTAMP = re.compile(rb'"timestamp":(\d+)')


class Listeners:
    """``heard`` has the delay of each notification in milliseconds; ``lost`` counts those who were cut off."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._buffers = {each.fileno(): b"" for each in crowd.sockets}
        self._sockets = {each.fileno(): each for each in crowd.sockets}
        self.lost = 0
        self.begin()

    def begin(self) -> None:
        self.heard: list[float] = []

    def report(self) -> dict[str, Any]:
        return {"lost": self.lost, "heard": [round(each, 1) for each in self.heard]}

    def wait(self, seconds: float) -> None:
        """Hears whatever comes within ``seconds``."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for number, _ in self._crowd.epoll.poll(left, 1_000):
                if number not in self._sockets:
                    return  # a command
                self._read(number)

    def _read(self, number: int) -> None:
        each = self._sockets[number]
        data = [self._buffers[number]]
        while True:
            try:
                more = each.recv(READ)
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            except OSError:
                more = b""
            if not more:
                self._drop(number)
                break
            data.append(more)
        self._take(number, b"".join(data))

    def _drop(self, number: int) -> None:
        self.lost += 1
        self._crowd.epoll.unregister(number)

    def _take(self, number: int, data: bytes) -> None:
        now = time.time() * 1000
        payloads, self._buffers[number] = cut(data)
        for payload in payloads:
            self._hear(number, payload, now)

    def _hear(self, number: int, payload: bytes, now: float) -> None:
        if is_ping(payload):
            self._sockets[number].sendall(PONG)
            return
        told = _TIMESTAMP.search(payload)
        if told is not None:
            self.heard.append(now - int(told[1]))


def greeting(number: int, addresses: list[str]) -> bytes:
    watched = addresses[number % len(addresses)]
    return frame(
        codec.encode(messages.UTXOSubscribe(id=1, subscriber_id=f"wallet-{number}", addresses=(watched,)))
    )


def answered(heard: bytes) -> bool:
    return len(heard) >= 4 and len(heard) >= 4 + int.from_bytes(heard[:4], "big")


def trusting() -> ssl.SSLContext:
    """A client's TLS that takes any certificate: what is measured is not who the node is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main() -> None:
    told = json.loads(sys.stdin.buffer.readline())
    size, addresses = int(told["size"]), told["addresses"]
    if allow_files(size + SPARE) < size + SPARE:
        raise ConfigurationError(f"{size} sockets need more open files than are allowed (ulimit -n)")
    with Crowd(int(told["port"]), size, trusting() if told["tls"] else None) as crowd:
        crowd.gather(lambda number: greeting(number, addresses), answered, lambda share: None)
        listeners = Listeners(crowd)
        stdin = sys.stdin.fileno()
        os.set_blocking(stdin, False)
        crowd.epoll.register(stdin)
        say({"gathered": size})
        commands = b""
        while True:
            listeners.wait(1.0)
            try:
                more = os.read(stdin, READ)
            except BlockingIOError:
                continue
            if not more:
                return
            *lines, commands = (commands + more).split(b"\n")
            for line in lines:
                if json.loads(line)["command"] == "begin":
                    listeners.begin()
                    say({})
                else:
                    say(listeners.report())


if __name__ == "__main__":
    main()
