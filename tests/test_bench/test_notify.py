"""Who tells a crowd: each contestant for real, with a crowd of three."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.test_bench.test_inprocess import Quiet
from timeproto.bench import notify
from timeproto.bench.crowd import Crowd
from timeproto.bench.tellers import BROKERS, BareTeller, Child, Mosquitto, Redis, find_program
from timeproto.errors import ConfigurationError


class Words(SynchronousTestCase):
    """What is said to brokers, by their protocols."""

    def test_mqtt_lengths(self) -> None:
        """Seven bits a byte, the least first (MQTT 3.1.1, 2.2.3)."""
        for size, length in ((0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (16_384, b"\x80\x80\x01")):
            self.assertEqual(Mosquitto._packet(0x30, b"x" * size), b"\x30" + length + b"x" * size)

    def test_redis_words(self) -> None:
        """An array of strings, each behind its length."""
        self.assertEqual(Redis._words(b"PUBLISH", b"c", b"xyz"), b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$3\r\nxyz\r\n")


class Contestants(SynchronousTestCase):
    def test_all_of_them(self) -> None:
        """A node, the bare loop and every broker that is installed: each tells everyone, once and whole."""
        report = notify.measure((3,), 2, Quiet())
        (size,) = report["sizes"]
        present = [program for program in BROKERS if find_program(program)]
        self.assertEqual(set(size["ms"]), {"timeproto", "bare loop", *present})
        self.assertEqual(set(report["absent"]), set(BROKERS) - set(present))
        self.assertEqual(size["to_bare"]["bare loop"], 1.0)
        tellings = 2 * notify.TELLINGS
        self.assertTrue(all(times["runs"] == tellings and times["min"] > 0 for times in size["ms"].values()))
        self.assertTrue(all(ratios["runs"] == 2 for ratios in size["to_bare_range"].values()))
        self.assertEqual(set(report["versions"]), set(present))
        self.assertTrue(all(any(each.isdigit() for each in version) for version in report["versions"].values()))
        text = "\n".join(notify.text(report))
        self.assertIn("3 subscribers", text)
        self.assertTrue(all(f"{name} is not installed" in text for name in report["absent"]))
        self.assertTrue(notify.draw(report, "note").startswith("<svg"))

    def test_more_than_is_allowed(self) -> None:
        """Of a size for which there are too few files as many are measured as there are, once, and that is said."""
        self.patch(notify, "allow_files", lambda wanted: notify.OPEN_FILES + 3)
        report = notify.measure((1_000, 2_000), 1, Quiet(), brokers=False)
        self.assertEqual([each["subscribers"] for each in report["sizes"]], [3])
        self.assertIn("3 subscribers instead of 1000: 603 open files are allowed", notify.text(report)[0])

    def test_none_is_allowed(self) -> None:
        """Nothing is measured, in words."""
        self.patch(notify, "allow_files", lambda wanted: 100)
        report = notify.measure((1_000,), 1, Quiet(), brokers=False)
        self.assertEqual(report["sizes"], [])
        self.assertIn("0 subscribers instead of 1000", notify.text(report)[0])


class Children(SynchronousTestCase):
    def folder(self) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        return folder

    def test_one_that_fails(self) -> None:
        """Its last words are told."""
        child = Child([sys.executable, "-c", "print('no room'); raise SystemExit(3)"], self.folder())
        self.addCleanup(child.stop)
        with self.assertRaises(ConfigurationError) as caught:
            child.await_port(1)
        self.assertIn("no room", str(caught.exception))

    def test_one_that_does_not_end(self) -> None:
        """It is killed."""
        self.patch(sys.modules[Child.__module__], "STOP", 0.2)
        stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('.', flush=True); time.sleep(60)"
        folder = self.folder()
        child = Child([sys.executable, "-c", stubborn], folder)
        while not (folder / "output.log").read_text():
            os.sched_yield()
        child.stop()
        self.assertEqual(child.process.returncode, -9)


class Listeners(SynchronousTestCase):
    def crowd(self, size: int, told: int) -> tuple[Crowd, BareTeller]:
        folder = Path(self.mktemp())
        folder.mkdir()
        teller = BareTeller(folder, size, told)
        self.addCleanup(teller.stop)
        crowd = Crowd(teller.port, size)
        self.addCleanup(crowd.__exit__)
        crowd.gather(teller.greeting, teller.answered, lambda share: None)
        return crowd, teller

    def test_more_than_expected(self) -> None:
        """Somebody who is told too much is an error: what is measured would not be what it says."""
        crowd, teller = self.crowd(2, 10)
        teller._boss.sendall(b"!")
        self.assertRaises(ConfigurationError, crowd.await_bytes, 9)

    def test_one_that_is_cut_off(self) -> None:
        """It is an error at once, not after a long wait."""
        crowd, teller = self.crowd(2, 10)
        teller.stop()
        self.assertRaises(ConfigurationError, crowd.await_bytes, 10)

    def test_nobody_listens(self) -> None:
        """A port where nothing is gives one sentence."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port: Any = server.getsockname()[1]
        with Crowd(port, 1) as crowd:
            self.assertRaises(
                ConfigurationError, crowd.gather, lambda number: b"", lambda heard: True, lambda share: None
            )
