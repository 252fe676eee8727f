"""Frames as they go over the wire, for those on the benches who are no wallet and no node."""

from __future__ import annotations

from timeproto.wire import codec, messages


def frame(payload: bytes) -> bytes:
    """A payload behind its length."""
    return len(payload).to_bytes(4, "big") + payload


def cut(data: bytes) -> tuple[list[bytes], bytes]:
    """The payloads of the frames that are whole, in order, and what has come of the next one."""
    payloads, at = [], 0
    while len(data) - at >= 4:
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if len(data) < end:
            break
        payloads.append(data[at + 4 : end])
        at = end
    return payloads, data[at:]


def is_ping(payload: bytes) -> bool:
    return payload.startswith(b'{"type":"Ping"')


PONG = frame(codec.encode(messages.Pong()))
