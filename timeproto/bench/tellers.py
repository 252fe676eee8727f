"""Who tells a crowd: a node of ours, a bare loop of ``socket.send``, and brokers that are installed.

Each is a child process on the loopback, in a folder of its own, and ends with its context.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from timeproto.bench.crowd import Crowd
from timeproto.bench.frames import frame
from timeproto.bench.payments import Purse
from timeproto.bench.probe import SPARE, STAMP
from timeproto.devnet.layout import lay_out
from timeproto.errors import ConfigurationError
from timeproto.model.certificate import check_proof
from timeproto.model.transaction import TxOutput
from timeproto.wire import codec, messages

START = 30.0
STOP = 10.0
CHANNEL = b"coin"


class Teller(Protocol):
    """``port`` to connect to, what a subscriber says first and how it knows that it is one, and the telling."""

    name: str
    port: int

    def greeting(self, number: int) -> bytes: ...

    def answered(self, heard: bytes) -> bool: ...

    def tell(self, crowd: Crowd) -> float:
        """Milliseconds from the moment there is something to tell to the last byte at the last subscriber."""

    def stop(self) -> None: ...


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A process that is ended with us: gently, and then not."""

    def __init__(self, command: list[str], folder: Path, *, stdin: bool = False) -> None:
        self._log: IO[bytes] = (folder / "output.log").open("wb")
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._name = command[0]
        self._folder = folder

    def await_port(self, port: int) -> None:
        """Returns when something listens there."""
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                return
            time.sleep(0.05)
        words = (self._folder / "output.log").read_text("utf-8", "replace").strip().splitlines()
        raise ConfigurationError(f"{self._name} does not start: {words[-1] if words else 'it said nothing'}")

    def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


class NodeTeller:
    """A masternode alone in its network: a payment is final at once, and its receiver's wallets are the crowd."""

    name = "timeproto"

    def __init__(self, folder: Path, subscribers: int, tellings: int) -> None:
        self.port = free_port()
        self.payload = b""
        layout = lay_out(folder, 1, self.port, log_level="warn", coins_per_wallet=tellings + 1)
        self._purse = Purse(layout)
        self._genesis = layout.genesis
        self._stamps = folder / "stamps"
        command = [sys.executable, "-m", "timeproto.bench.probe", str(self._stamps), str(subscribers + SPARE)]
        command += ["--nodaemon", "--pidfile=", "timenode", "--config", str(layout.nodes[0].config)]
        self._child = Child([*command, "--until-stdin-closes"], folder, stdin=True)
        self._child.await_port(self.port)
        self._payments = iter(self._purse.payments(tellings + 1))
        self._payer = socket.create_connection(("127.0.0.1", self.port), START)

    @property
    def pid(self) -> int:
        return self._child.process.pid

    def greeting(self, number: int) -> bytes:
        name = f"wallet-{number}"
        return frame(codec.encode(messages.UTXOSubscribe(id=1, subscriber_id=name, addresses=(self._purse.receiver,))))

    def answered(self, heard: bytes) -> bool:
        return len(heard) >= 4 and len(heard) >= 4 + int.from_bytes(heard[:4], "big")

    def rehearse(self) -> None:
        """One payment while nobody else listens, to know what will be told; its proof is checked."""
        with socket.create_connection(("127.0.0.1", self.port), START) as listener:
            listener.sendall(self.greeting(0))
            _receive(listener)
            self._payer.sendall(next(self._payments).frame)
            self.payload = _receive(listener)
        told = codec.decode(self.payload)
        if not isinstance(told, messages.UTXOStateNotification) or told.proof is None:
            raise ConfigurationError("the node told something else than a coin with its proof")
        if not isinstance(told.output, TxOutput) or told.output.address != self._purse.receiver:
            raise ConfigurationError("the node told of a coin that nobody asked for")
        check_proof(told.proof, self._genesis.masternode_set, self._genesis.hash)

    def tell(self, crowd: Crowd) -> float:
        before = self._stamps.stat().st_size
        self._payer.sendall(next(self._payments).frame)
        last = crowd.await_bytes()
        with self._stamps.open("rb") as file:
            file.seek(before)
            written = file.read()
        if len(written) != STAMP.size:
            raise ConfigurationError(f"one payment was to become final, {len(written) // STAMP.size} did")
        (durable,) = STAMP.unpack(written)
        return 1000 * float(last - durable)

    def stop(self) -> None:
        self._payer.close()
        self._child.stop()


def _receive(connection: socket.socket) -> bytes:
    """The payload of one frame."""
    with connection.makefile("rb") as file:
        return file.read(int.from_bytes(file.read(4), "big"))


_BARE = """
import socket, sys, time
count, size = int(sys.argv[1]), int(sys.argv[2])
listener = socket.create_server(("127.0.0.1", int(sys.argv[3])), backlog=4096)
sockets = []
while len(sockets) < count + 1:
    each, _ = listener.accept()
    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sockets.append(each)
    each.send(b"!")
data = b"x" * size
told, *sockets = sockets
while told.recv(1):
    began = time.monotonic()
    for each in sockets:
        each.send(data)
    told.sendall(repr(began).encode().rjust(32))
"""
"""The yardstick, whole: the first connection gives the word and is told when the loop began."""


class BareTeller:
    """A loop of ``socket.send`` over the same number of sockets, of as many bytes."""

    name = "bare loop"

    def __init__(self, folder: Path, subscribers: int, size: int) -> None:
        self.port = free_port()
        self._size = size
        command = [sys.executable, "-c", _BARE, str(subscribers), str(size), str(self.port)]
        self._child = Child(command, folder)
        deadline = time.monotonic() + START
        while True:
            try:
                self._boss = socket.create_connection(("127.0.0.1", self.port), START)
                break
            except OSError:
                if time.monotonic() > deadline or self._child.process.poll() is not None:
                    self._child.stop()
                    raise ConfigurationError("the bare loop does not start") from None
                time.sleep(0.05)
        self._boss.recv(1)

    def greeting(self, number: int) -> bytes:
        return b""

    def answered(self, heard: bytes) -> bool:
        return heard == b"!"

    def tell(self, crowd: Crowd) -> float:
        self._boss.sendall(b"!")
        last = crowd.await_bytes(self._size)
        began = b""
        while len(began) < 32:
            began += self._boss.recv(32)
        return 1000 * (last - float(began))

    def stop(self) -> None:
        self._boss.close()
        self._child.stop()


class Broker:
    """A publish-subscribe server that is not ours, told to fan out the same bytes."""

    name = ""

    def __init__(self, folder: Path, command: list[str], port: int, size: int) -> None:
        self.port = port
        self._size = size
        self._child = Child(command, folder)
        self._child.await_port(port)
        self._publisher = socket.create_connection(("127.0.0.1", port), START)
        self._publisher.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _publish(self, crowd: Crowd, command: bytes, told: int) -> float:
        began = time.monotonic()
        self._publisher.sendall(command)
        return 1000 * (crowd.await_bytes(told) - began)

    def stop(self) -> None:
        self._publisher.close()
        self._child.stop()


class Mosquitto(Broker):
    """MQTT 3.1.1, QoS 0."""

    name = "mosquitto"

    def __init__(self, program: str, folder: Path, subscribers: int, size: int) -> None:
        port = free_port()
        config = folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""  # else it changes to one that cannot read the folder
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_connections -1\npersistence false\n"
            f"log_dest stderr\nlog_type error\nset_tcp_nodelay true\n{user}",
            "ascii",
        )
        super().__init__(folder, [program, "-c", str(config)], port, size)
        self._publisher.sendall(self._connect(b"publisher"))
        if self._publisher.recv(4)[:1] != b"\x20":
            raise ConfigurationError("mosquitto does not answer")

    @staticmethod
    def _packet(kind: int, body: bytes) -> bytes:
        length, left = b"", len(body)
        while True:
            left, byte = left >> 7, left & 0x7F
            length += bytes([byte | (0x80 if left else 0)])
            if not left:
                return bytes([kind]) + length + body

    def _connect(self, name: bytes) -> bytes:
        return self._packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack("!H", len(name)) + name)

    def greeting(self, number: int) -> bytes:
        topic = struct.pack("!H", len(CHANNEL)) + CHANNEL
        return self._connect(b"s%d" % number) + self._packet(0x82, b"\x00\x01" + topic + b"\x00")

    def answered(self, heard: bytes) -> bool:
        return len(heard) >= 9  # CONNACK and SUBACK

    def tell(self, crowd: Crowd) -> float:
        packet = self._packet(0x30, struct.pack("!H", len(CHANNEL)) + CHANNEL + b"x" * self._size)
        return self._publish(crowd, packet, len(packet))


class Redis(Broker):
    """``PUBLISH`` to a channel."""

    name = "redis"

    def __init__(self, program: str, folder: Path, subscribers: int, size: int) -> None:
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--protected-mode", "no"]
        options += ["--save", "", "--appendonly", "no", "--maxclients", str(subscribers + SPARE), "--dir", str(folder)]
        super().__init__(folder, [program, *options], port, size)

    @staticmethod
    def _words(*words: bytes) -> bytes:
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

    def greeting(self, number: int) -> bytes:
        return self._words(b"SUBSCRIBE", CHANNEL)

    def answered(self, heard: bytes) -> bool:
        return heard.endswith(b":1\r\n")

    def tell(self, crowd: Crowd) -> float:
        data = b"x" * self._size
        took = self._publish(crowd, self._words(b"PUBLISH", CHANNEL, data), len(self._words(b"message", CHANNEL, data)))
        self._publisher.recv(64)
        return took


BROKERS: dict[str, Callable[[str, Path, int, int], Teller]] = {"mosquitto": Mosquitto, "redis-server": Redis}
"""By program."""


def version_of(name: str, path: str) -> str:
    """What the program says of itself, in its first line."""
    option = "-h" if name == "mosquitto" else "--version"
    said = subprocess.run([path, option], capture_output=True, text=True, timeout=START, check=False)
    return next(iter((said.stdout or said.stderr).splitlines()), "says no version").split(" sha=")[0]


def find_program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
