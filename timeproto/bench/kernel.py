"""What the kernel counts: CPU time, memory and TCP bytes of processes that are not ours to instrument.

Everything is read from Linux's ``/proc`` and its socket table (``sock_diag``), with no package for it; where there is
none of that, the answer is None and the report says that it was not measured.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")

_SOCK_DIAG = getattr(socket, "NETLINK_SOCK_DIAG", 4)
_BY_FAMILY = 20
_DUMP_REQUEST = 0x301
_DONE, _ERROR = 3, 2
_ESTABLISHED = 1 << 1
_INFO = 2
"""Attribute ``INET_DIAG_INFO``: the socket's ``tcp_info``."""
_BYTES_RECEIVED = 128
"""Where ``tcpi_bytes_received`` stands in it."""


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of running processes, threads included, to a clock tick (10 ms)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def busy_seconds() -> float | None:
    """CPU time that anybody on this machine has used since it started, time stolen by its host included."""
    try:
        fields = [int(word) for word in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]]
    except (OSError, ValueError, IndexError):
        return None
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / _TICK


def resident_bytes(pid: int) -> int | None:
    """Memory of a process that is in RAM, shared libraries included."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int | None:
    """The most it ever had there."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def tcp_received(ports: Collection[int]) -> dict[tuple[int, int], int] | None:
    """Payload bytes received so far by every established IPv4 connection that touches one of ``ports``.

    By (own port, other port): on one machine both ends of a connection appear, so the sum counts both directions, and
    each byte once. TCP and IP headers are not counted.
    """
    request = struct.pack("=IHHII", 72, _BY_FAMILY, _DUMP_REQUEST, 1, 0)
    request += struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 1 << (_INFO - 1), _ESTABLISHED) + bytes(48)
    received: dict[tuple[int, int], int] = {}
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as netlink:
            netlink.sendto(request, (0, 0))
            while _take(netlink.recv(1 << 17), ports, received):
                pass
    except (OSError, AttributeError):
        return None
    return received


def _take(reply: bytes, ports: Collection[int], received: dict[tuple[int, int], int]) -> bool:
    """Adds one reply's sockets to ``received``; False after the last one."""
    at = 0
    while at + 16 <= len(reply):
        length, kind = struct.unpack_from("=IH", reply, at)
        if kind == _ERROR:
            raise OSError("the kernel refuses to list its sockets")
        if kind == _DONE or length < 16:
            return False
        own, other = struct.unpack_from("!HH", reply, at + 20)
        if own in ports or other in ports:
            info = _attribute(reply, at + 88, at + length)
            if info is not None:
                (received[own, other],) = struct.unpack_from("=Q", reply, info + _BYTES_RECEIVED)
        at += (length + 3) & ~3
    return True


def _attribute(reply: bytes, at: int, end: int) -> int | None:
    """Where the socket's ``tcp_info`` begins, None if it is missing or too old to have the counter."""
    while at + 4 <= end:
        length, kind = struct.unpack_from("=HH", reply, at)
        if kind == _INFO:
            return at + 4 if length >= 4 + _BYTES_RECEIVED + 8 else None
        at += max(4, (length + 3) & ~3)
    return None
