"""The other end of a WebSocket: a client by wsproto, and frames by hand for what no client would send."""

from __future__ import annotations

import json
import struct
from typing import Any

from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from tests.test_web.harness import Connection, Web, encode

OPENING = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Wallet:
    """A WebSocket client: the other end of wsproto."""

    def __init__(self, web: Web, **headers: str) -> None:
        self.web = web
        self.connection: Connection = web.connect().request("GET", "/v1/socket", **(OPENING | headers))
        head, _, rest = self.connection.take().partition(b"\r\n\r\n")
        self.head = head.decode("latin-1")
        self.frames = Frames(ConnectionType.CLIENT)
        self.told: list[Any] = []
        self.closed: int | None = None
        self._hear(rest)

    def send(self, message: Any) -> Wallet:
        return self.say(encode(message))

    def say(self, text: bytes, *, whole: bool = True) -> Wallet:
        return self.raw(self.frames.send(TextMessage(text.decode("utf-8"), message_finished=whole)))

    def raw(self, data: bytes) -> Wallet:
        self.connection.send(data)
        self._hear(self.connection.take())
        return self

    def _hear(self, data: bytes) -> None:
        if not data:
            return
        self.frames.receive_data(data)
        for event in self.frames.events():
            match event:
                case TextMessage(data=text):
                    self.told.append(json.loads(text))
                case CloseConnection(code=code):
                    self.closed = code
                case Ping() | Pong():
                    self.told.append(type(event).__name__.lower())

    def hear(self) -> Wallet:
        self._hear(self.connection.take())
        return self

    def take(self) -> list[Any]:
        told, self.told = self.told, []
        return told


def header(opcode: int, size: int, *, final: bool = True, masked: bool = True) -> bytes:
    """The head of a frame, with a mask of zeroes if ``masked``."""
    first, mask = opcode | (0x80 if final else 0), 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + (b"\x00" * 4 if masked else b"")
