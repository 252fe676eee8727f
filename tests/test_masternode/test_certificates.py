"""The TLS files of a running node: looked at now and then, taken whole, and complained of once."""

from __future__ import annotations

import errno
import math
import os
import ssl
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.authority import DAY, Authority
from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.masternode import certificates
from timeproto.masternode.certificates import Certificates
from timeproto.masternode.config import make_config
from timeproto.network.certificates import LIFETIME, RENEW_BEFORE
from timeproto.network.tls import ServerContextFactory
from timeproto.web.metrics import Metrics

LOOK = limits.CERTIFICATE_LOOK + 0.1


class CertificatesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.files = self.folder / "c.pem", self.folder / "k.pem"
        self.authority = Authority(self.folder)
        self.clock = Clock()
        self.clock.rightNow = 1_800_000_000.0
        self.metrics = Metrics()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        if event.get("log_namespace", "").startswith("timeproto.masternode.certificates"):
            self.said.append(f"{event['log_level'].name}: {event['log_format'].format(**event)}")

    def take(self) -> list[str]:
        said, self.said = self.said, []
        return said

    def open(self) -> Certificates:
        certificates = Certificates(
            self.clock, *self.files, "127.0.0.1", metrics=self.metrics, now=self.clock.seconds
        )
        certificates.startService()
        self.addCleanup(certificates.stopService)
        return certificates

    def reloads(self, outcome: str) -> float:
        return float(self.metrics.tls_reloads.labels(outcome=outcome)._value.get())


class Start(CertificatesCase):
    def test_they_are_made_once_and_kept(self) -> None:
        """Missing ones are made; one alone is never completed with a stranger."""
        first = self.open().context.loaded
        self.assertEqual(self.open().context.loaded, first)
        self.files[1].unlink()
        self.assertRaises(ConfigurationError, self.open)
        self.assertFalse(self.files[1].exists())

    def test_files_that_cannot_be_had_are_named(self) -> None:
        """A folder that is missing, or that may not be looked into, is the operator's to mend: status 2."""

        def exists(path: Path) -> bool:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        self.files = self.folder / "none" / "c.pem", self.folder / "none" / "k.pem"
        with self.assertRaisesRegex(ConfigurationError, r"none/c\.pem .*: No such file or directory"):
            self.open()
        self.patch(Path, "exists", exists)
        with self.assertRaisesRegex(ConfigurationError, r"none/c\.pem .*: Permission denied"):
            self.open()

    def test_a_disk_with_room_for_one(self) -> None:
        """A key whose certificate cannot be written is not left behind: with room again the node makes both."""
        replace = os.replace

        def full(beside: str, path: Path) -> None:
            if path == self.files[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            replace(beside, path)

        patched = self.patch(os, "replace", full)
        self.assertRaisesRegex(ConfigurationError, "No space left", self.open)
        self.assertEqual([path for path in self.files if path.exists()], [])
        patched.restore()
        self.open()

    def test_one_that_cannot_be_renewed_serves_until_its_end(self) -> None:
        """At the start as later: it is complained of once."""

        def refuse(*given: Any) -> bool:
            raise OSError(errno.EROFS, "Read-only file system")

        self.open()
        self.take()
        self.patch(certificates, "renew_certificate", refuse)
        self.clock.advance((LIFETIME - RENEW_BEFORE).total_seconds())
        self.take()
        again = self.open()
        (said,) = self.take()
        self.assertIn("cannot be renewed: [Errno 30] Read-only file system", said)
        again.look()
        self.assertEqual(self.take(), [])

    def test_whom_it_is_for(self) -> None:
        """The host at which others reach the node, else that on which it listens."""
        self.assertEqual(make_config({"listen": "127.0.0.1:1"}).tls_host, "127.0.0.1")
        announced = {"listen": "0.0.0.0:1", "announce": "node7.example.org:1", "tls": True}
        self.assertEqual(make_config(announced).tls_host, "node7.example.org")

    def test_one_that_has_ended_is_told_and_served(self) -> None:
        """Masternodes check keys and not dates: the node must not stay away for that."""
        self.clock.rightNow += 365 * 86_400 * 10
        self.authority.issue(*self.files)
        self.open()
        (said,) = self.take()
        self.assertIn("has ended", said)

    def test_nothing_is_left_when_it_stops(self) -> None:
        """No timer."""
        self.open().stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_its_end_is_a_number(self) -> None:
        """Unix seconds; without TLS it never comes."""
        self.assertEqual(self.metrics.tls_end._value.get(), math.inf)
        self.open()
        self.assertAlmostEqual(self.metrics.tls_end._value.get(), self.clock.seconds() + LIFETIME.total_seconds())


class Changes(CertificatesCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock.rightNow = 0.0  # the authority's certificates live in the test's own time, and have not ended
        self.authority.issue(*self.files)
        self.certificates = self.open()
        self.before = self.certificates.context.getContext()

    def is_as_before(self) -> bool:
        return self.certificates.context.getContext() is self.before

    def test_a_new_pair_is_taken_at_the_next_look(self) -> None:
        """Said in one line, counted; nothing happens while nothing changes."""
        self.clock.pump([LOOK] * 3)
        self.assertTrue(self.is_as_before())
        self.authority.issue(*self.files)
        self.assertTrue(self.is_as_before())
        self.clock.advance(LOOK)
        self.assertFalse(self.is_as_before())
        (said,) = self.take()
        self.assertTrue(said.startswith("info: the TLS certificate is loaded"), said)
        self.assertEqual((self.reloads("loaded"), self.reloads("refused")), (1, 0))

    def test_one_file_after_the_other(self) -> None:
        """A look between the two complains of nothing, and the pair is taken when it is whole."""
        other = self.folder / "other.pem"
        self.authority.issue(self.files[0], other)
        self.clock.advance(LOOK)
        self.assertTrue(self.is_as_before())
        os.replace(other, self.files[1])
        self.clock.advance(LOOK)
        self.assertFalse(self.is_as_before())
        self.assertEqual([line.partition(":")[0] for line in self.take()], ["info"])

    def test_a_bad_pair_is_complained_of_once(self) -> None:
        """One line and one count however often it is looked at; the one before stays, and a good one is taken after."""
        self.files[0].write_text("nonsense")
        self.clock.pump([LOOK] * 5)
        self.assertTrue(self.is_as_before())
        (said,) = self.take()
        self.assertTrue(said.startswith("error: the TLS certificate") and "stays in use" in said, said)
        self.assertEqual(self.reloads("refused"), 1)
        self.files[1].unlink()
        self.clock.pump([LOOK] * 3)
        self.assertEqual((len(self.take()), self.reloads("refused")), (1, 2))
        self.authority.issue(*self.files)
        self.clock.advance(LOOK)
        self.assertFalse(self.is_as_before())

    def test_at_once_on_a_signal(self) -> None:
        """Both ways: a good one is taken, a bad one is refused aloud, each time it is asked for."""
        self.authority.issue(*self.files)
        self.certificates.reload()
        self.assertFalse(self.is_as_before())
        taken = self.certificates.context.getContext()
        self.files[1].write_text("nonsense")
        self.certificates.reload()
        self.certificates.reload()
        self.assertIs(self.certificates.context.getContext(), taken)
        self.assertEqual([line.partition(":")[0] for line in self.take()], ["info", "error", "error"])
        self.assertEqual((self.reloads("loaded"), self.reloads("refused")), (1, 2))
        self.clock.pump([LOOK] * 3)
        self.assertEqual(self.take(), [])

    def test_one_that_has_ended_is_refused(self) -> None:
        """It would shut out who can still come by the one before."""
        self.clock.rightNow = self.certificates.context.end.timestamp() - 86_400 * 30
        self.authority.issue(*self.files, life=-DAY)
        self.certificates.reload()
        self.assertTrue(self.is_as_before())
        (said,) = self.take()
        self.assertRegex(said, "^error: the TLS certificate .* ended at ")


class OwnCertificate(CertificatesCase):
    def test_it_is_renewed_while_the_node_runs(self) -> None:
        """What the node made for itself it makes again in time, and takes at the same look."""
        certificates = self.open()
        end = certificates.context.end
        self.clock.advance((LIFETIME - RENEW_BEFORE).total_seconds() - LOOK)
        self.assertEqual((certificates.context.end, self.take()), (end, []))
        self.clock.pump([LOOK] * 3)
        self.assertGreater(certificates.context.end, end)
        self.assertEqual(len(self.take()), 1)

    def test_a_disk_that_takes_no_more(self) -> None:
        """Said once, tried on, and the one that is there goes on being served."""
        certificates = self.open()
        before = certificates.context.getContext()

        def full(beside: str, path: Path) -> None:
            raise OSError(28, "No space left on device", beside)  # which has another name each time

        self.patch(os, "replace", full)
        self.clock.advance((LIFETIME - RENEW_BEFORE).total_seconds())
        self.clock.pump([LOOK] * 4)
        (said,) = self.take()
        self.assertIn("cannot be renewed", said)
        self.assertEqual([path for path in self.folder.iterdir() if path.name.startswith(".")], [])
        self.assertIs(certificates.context.getContext(), before)

    def test_whatever_is_in_the_files(self) -> None:
        """Kinds of nonsense that the libraries call by names of their own: a complaint each, and the looks go on."""
        certificates = self.open()
        good = [path.read_bytes() for path in self.files]
        self.clock.rightNow += (LIFETIME - RENEW_BEFORE / 2).total_seconds()  # so that it is looked at to be renewed
        version, name = (bytearray(ssl.PEM_cert_to_DER_cert(good[0].decode())) for _ in range(2))
        version[version.index(b"\xa0\x03\x02\x01\x02") + 4] = 58
        name[name.rindex(b"timeproto, made")] = 0xFF
        key = "-----BEGIN PRIVATE KEY-----\nMBQCAQAwBwYDKgMEBQAEBgQEAQIDBA==\n-----END PRIVATE KEY-----\n"
        certificate = [ssl.DER_cert_to_PEM_cert(bytes(der)).encode() for der in (version, name)]
        for bad in ((good[0], key.encode()), (certificate[0], good[1]), (certificate[1], good[1])):
            for path, data in zip(self.files, bad, strict=True):
                path.write_bytes(data)
            self.take()
            self.clock.pump([LOOK] * 3)
            self.assertEqual([each.partition(":")[0] for each in self.take()], ["error"])
            self.assertRaises(ConfigurationError, ServerContextFactory, *self.files)
        for path, data in zip(self.files, good, strict=True):
            path.write_bytes(data)
        self.clock.advance(LOOK)
        self.assertGreater(certificates.context.end.timestamp(), self.clock.seconds() + 86_400)
