"""TLS on both ports of real nodes: what a scanner says of it, and certificates that change while the node runs."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet.threads import deferToThread

from tests.authority import Authority
from tests.test_processes.harness import until
from tests.test_processes.test_web_port import WebCase, fetch
from timeproto import limits
from timeproto.wire import codec, messages

SSLYZE = Path(sys.prefix) / "sslyze" / "bin" / "sslyze"
PATIENCE = 120


def scan(address: str, authority: Path) -> dict[str, str]:
    """What keeps a port from Mozilla's intermediate configuration, by name; empty if it conforms. Blocks."""
    done = subprocess.run(
        [SSLYZE, "--mozilla_config=intermediate", "--certinfo_ca_file", str(authority), address],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    _, found, verdict = done.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")
    issues = dict(re.findall(r"^ +\* (\w+): (.*)$", verdict, re.MULTILINE))
    if not found or f"{address}: {'FAILED - Not compliant.' if issues else 'OK - Compliant.'}" not in verdict:
        raise AssertionError(f"{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}")
    if bool(done.returncode) != bool(issues):
        raise AssertionError(f"status {done.returncode} with {issues}")
    return issues


def shown(address: str) -> x509.Certificate:
    """The certificate that a port shows. Blocks."""
    with closing(connect(address)) as channel:
        return x509.load_der_x509_certificate(channel.getpeercert(binary_form=True) or b"")


def connect(address: str) -> ssl.SSLSocket:
    """A TLS connection that checks nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = address.rpartition(":")
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=20))


def is_alive(channel: ssl.SSLSocket) -> bool:
    """Whether the node still answers a Ping on it. Blocks."""
    payload = codec.encode(messages.Ping(id=1))
    channel.sendall(len(payload).to_bytes(4, "big") + payload)
    size = int.from_bytes(channel.recv(4), "big")
    return b'"Pong"' in channel.recv(size)


class TLSCase(WebCase):
    timeout = 240

    async def start_tls(self) -> None:
        await self.start_web(1, tls=True)
        node = self.devnet.layout.nodes[0]
        self.ports = (node.address, str(node.web))
        self.files = node.folder / "tls-certificate.pem", node.folder / "tls-key.pem"
        self.authority = Authority(node.folder / "authority")

    async def serials(self) -> list[int]:
        """Of the certificates that the two ports show."""
        return [(await deferToThread(shown, port)).serial_number for port in self.ports]

    def replace(self) -> int:
        """A certificate of the authority in place of the node's, file by file as tools do; its serial number."""
        new = tuple(path.with_suffix(".new") for path in self.files)
        serial = self.authority.issue(*new)
        for there, here in zip(new, self.files, strict=True):
            os.replace(there, here)
        return serial

    def hang_up(self) -> None:
        self.devnet.processes[0].signal(signal.SIGHUP)

    async def metric(self, name: str) -> float:
        address = f"https://{self.ports[1]}/metrics"
        context = ssl._create_unverified_context()
        _, text = await deferToThread(fetch, address, context=context)
        (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", text.decode("utf-8"), re.MULTILINE) or ["0"]
        return float(value)


class Scanned(TLSCase):
    async def test_mozillas_intermediate_configuration(self) -> None:
        """Both ports conform with a certificate of an authority; with the node's own only its authority is unknown."""
        await self.start_tls()
        own = self.files[0]
        for port in self.ports:
            issues = await deferToThread(scan, port, own)
            self.assertEqual(set(issues), {"certificate_path_validation"}, port)
        serial = self.replace()
        self.hang_up()
        await until(lambda: self._shows(serial))
        for port in self.ports:
            self.assertEqual(await deferToThread(scan, port, self.authority.path), {}, port)

    async def _shows(self, serial: int) -> bool:
        return await self.serials() == [serial] * 2


class Replaced(TLSCase):
    async def test_a_new_certificate_without_a_restart(self) -> None:
        """Both ports show it at once on SIGHUP; whoever is connected stays; what is not one changes nothing."""
        await self.start_tls()
        channel: Any = await deferToThread(connect, self.ports[0])
        self.addCleanup(channel.close)
        first = await self.serials()
        self.assertEqual(first[0], first[1])

        self.files[0].write_text("nonsense")
        self.hang_up()

        async def is_refused() -> bool:
            return await self.metric('timeproto_tls_reloads_total{outcome="refused"}') == 1

        await until(is_refused)
        self.assertEqual(await self.serials(), first)
        log = self.devnet.layout.nodes[0].log.read_text("utf-8")
        self.assertEqual(len(re.findall(r"cannot be used: not PEM; the one before stays in use", log)), 1)

        serial = self.replace()
        self.hang_up()

        async def is_there() -> bool:
            return await self.serials() == [serial] * 2

        await until(is_there)
        self.assertTrue(await deferToThread(is_alive, channel))
        ends = x509.load_pem_x509_certificate(self.files[0].read_bytes()).not_valid_after_utc
        self.assertEqual(await self.metric("timeproto_tls_certificate_end_seconds"), ends.timestamp())
        trusted = ssl.create_default_context(cafile=str(self.authority.path))
        status, _ = await deferToThread(fetch, f"https://{self.ports[1]}/live", context=trusted)
        self.assertEqual(status, 200)


class Unfinished(TLSCase):
    crowd = 100

    async def test_half_a_handshake_ends_and_disturbs_nobody(self) -> None:
        """A hundred on each port that say nothing, or begin a TLS record: closed in time, no wallets, nobody waits."""
        await self.start_tls()
        waiting = []
        for port in self.ports:
            host, _, number = port.rpartition(":")
            for at in range(self.crowd):
                stream = socket.create_connection((host, int(number)), timeout=2 * limits.HANDSHAKE)
                self.addCleanup(stream.close)
                stream.sendall(b"\x16\x03\x01\x02\x00\x01\x00" if at % 2 else b"")
                waiting.append(stream)
        channel: Any = await deferToThread(connect, self.ports[0])
        self.addCleanup(channel.close)
        self.assertTrue(await deferToThread(is_alive, channel))
        self.assertEqual(len(await self.serials()), 2)
        info = await self.devnet.info(1)
        assert info is not None
        self.assertLessEqual(info.wallets, 2)  # the channel and the question

        def all_closed() -> bool:
            return all(_is_closed(stream) for stream in waiting)

        self.assertTrue(await deferToThread(all_closed))
        self.assertTrue(await deferToThread(is_alive, channel))


def _is_closed(stream: socket.socket) -> bool:
    """Waits for the end, as long as the stream's own patience. Blocks."""
    try:
        while stream.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True
