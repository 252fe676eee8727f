"""The sums behind the numbers, and what the kernel is asked for."""

from __future__ import annotations

import os
import resource
import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench import kernel, machine

TIMES = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1)


class Sums(SynchronousTestCase):
    def test_percentiles(self) -> None:
        """The smallest value that so many do not exceed; of nothing there is none."""
        values = [float(number) for number in range(1, 101)]
        self.assertEqual([machine.percentile(values, p) for p in (1, 50, 99, 100)], [1.0, 50.0, 99.0, 100.0])
        self.assertEqual(machine.percentile([7.0], 50), 7.0)
        self.assertIsNone(machine.percentile([], 99))

    @given(TIMES, st.integers(1, 100))
    def test_a_percentile_is_one_of_them(self, values: list[float], percent: int) -> None:
        """And no more than the promised share is larger."""
        found = machine.percentile(values, percent)
        assert found is not None
        larger = sum(1 for value in values if round(value, 3) > found)
        self.assertLessEqual(larger * 100, (100 - percent) * len(values))

    @given(TIMES)
    def test_a_spread_is_in_order(self, values: list[float]) -> None:
        """The median lies between the ends, and every run is counted."""
        spread = machine.spread(values)
        assert spread is not None
        self.assertLessEqual(spread["min"], spread["median"])
        self.assertLessEqual(spread["median"], spread["max"])
        self.assertEqual(spread["runs"], len(values))

    def test_runs_that_measured_nothing(self) -> None:
        """They are left out, and nothing but them is no measurement."""
        self.assertEqual(machine.spread([None, 4.0, 2.0]), {"median": 3.0, "min": 2.0, "max": 4.0, "runs": 2})
        self.assertIsNone(machine.spread([None]))

    def test_the_limit(self) -> None:
        """Cores over one verification at each of n nodes."""
        self.patch(machine, "cores", lambda: 2)
        self.assertAlmostEqual(machine.payments_limit(7, 50.0), 2 / (7 * 50e-6))

    def test_what_it_was_measured_on(self) -> None:
        """Everything a reader needs to compare, and a yardstick that was measured."""
        told = machine.describe()
        needed = {"cores", "machine", "processor", "python", "libraries", "verify_us", "signatures"}
        self.assertLessEqual(needed, told.keys())
        self.assertGreater(told["verify_us"], 0)

    def test_what_others_used(self) -> None:
        """What the kernel counts beyond this process and its children, of all cores; nothing if it counts not."""
        busy = iter((10.0, 10.0 + 3.0, None))
        clock = iter((100.0, 102.0, 104.0))
        self.patch(machine, "cores", lambda: 2)
        self.patch(machine.kernel, "busy_seconds", lambda: next(busy))
        self.patch(machine.time, "monotonic", lambda: next(clock))
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.patch(machine.resource, "getrusage", lambda who: used)
        others = machine.Others()
        self.assertEqual(others.share(), 0.75)
        self.assertIsNone(others.share())

    def test_open_files(self) -> None:
        """The limit is raised only as far as is allowed, and never lowered."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        self.assertEqual(machine.allow_files(600), 600)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 600)
        self.assertEqual(machine.allow_files(100), 100)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 600)


class Kernel(SynchronousTestCase):
    def test_own_process(self) -> None:
        """CPU time and memory of a process that surely uses some."""
        self.assertGreater(kernel.cpu_seconds([os.getpid()]), 0)
        self.assertGreater(kernel.resident_bytes(os.getpid()) or 0, 2**20)
        self.assertGreater(kernel.peak_bytes(os.getpid()) or 0, 2**20)
        self.assertGreater(kernel.busy_seconds() or 0, 0)

    def test_a_process_that_is_gone(self) -> None:
        """It has no memory to tell of."""
        self.assertIsNone(kernel.resident_bytes(2**22 + 1))

    def test_bytes_of_a_connection(self) -> None:
        """Each byte once, in both directions, and nobody else's connections."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as one, listener.accept()[0] as other:
                one.sendall(b"x" * 1000)
                other.sendall(b"y" * 300)
                for end, size in ((other, 1000), (one, 300)):
                    self.assertEqual(len(end.recv(size, socket.MSG_WAITALL)), size)
                counted = kernel.tcp_received({port})
                mine = one.getsockname()[1]
        if counted is None:
            self.skipTest("the kernel does not list its sockets here")
        self.assertEqual(counted, {(port, mine): 1000, (mine, port): 300})
