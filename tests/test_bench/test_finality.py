"""The search, and how runs become a report."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench import finality
from timeproto.bench.load import Outcome


def outcome(rate: float, *, good: bool = True, ms: float = 10.0) -> Outcome:
    found = Outcome(rate, 100, sent=100, final=100, seconds=10.0, agree=True, nodes_cpu_s=1.0, own_cpu_s=0.1)
    found.final_ms = [ms] * 100
    found.peer_bytes, found.wallet_bytes = 70_000, 30_000
    if not good:
        found.final, found.final_ms = 90, [ms] * 90
    return found


class Search(SynchronousTestCase):
    def search(self, capacity: float, repeat: int = 2) -> tuple[float | None, list[float], dict[float, Any]]:
        """What it finds where exactly the rates up to ``capacity`` are sustained."""
        tried: list[float] = []
        runs: dict[float, list[Outcome]] = {}

        async def attempt(rate: float) -> Outcome:
            tried.append(rate)
            return outcome(rate, good=rate <= capacity)

        found = self.successResultOf(Deferred.fromCoroutine(finality.search(attempt, [], runs, repeat)))
        return found, tried, runs

    @given(st.floats(2, 20_000))
    def test_it_finds_the_edge(self, capacity: float) -> None:
        """Never more than is sustained, and not much less; in a bounded number of loads."""
        found, tried, runs = self.search(capacity)
        assert found is not None
        self.assertLessEqual(found, capacity)
        self.assertGreater(found, capacity / finality.PRECISION * 0.99)
        self.assertEqual(len(runs[found]), 2)
        self.assertLessEqual(len(tried), finality.LONGEST_SEARCH + 2)

    def test_nothing_is_sustained(self) -> None:
        """Then there is no highest rate."""
        self.assertEqual(self.search(0.0)[0], None)

    def test_a_rate_must_last(self) -> None:
        """One that held only once is lowered until it holds every time."""
        seen: dict[float, int] = {}

        async def attempt(rate: float) -> Outcome:
            seen[rate] = seen.get(rate, 0) + 1
            return outcome(rate, good=rate <= 500 and (rate <= 400 or seen[rate] == 1))

        runs: dict[float, list[Outcome]] = {}
        found = self.successResultOf(Deferred.fromCoroutine(finality.search(attempt, [], runs, 3)))
        assert found is not None
        self.assertTrue(400 * finality.BACK - 1 <= found <= 400, found)
        self.assertTrue(all(each.is_sustained for each in runs[found]))

    def test_nothing_lasts(self) -> None:
        """Where every rate holds once and never again there is none, after a bounded number of loads."""
        seen: list[float] = []

        async def attempt(rate: float) -> Outcome:
            seen.append(rate)
            return outcome(rate, good=rate <= 700 and seen.count(rate) == 1)

        found = self.successResultOf(Deferred.fromCoroutine(finality.search(attempt, [], {}, 3)))
        self.assertEqual(found, None)
        self.assertLessEqual(len(seen), 3 * finality.LONGEST_SEARCH)

    def test_it_goes_on_from_what_is_known(self) -> None:
        """Rates measured before the search are not tried again below."""
        known = {1000.0: [outcome(1000.0)]}
        tried: list[float] = []

        async def attempt(rate: float) -> Outcome:
            tried.append(rate)
            return outcome(rate, good=rate <= 1200)

        self.successResultOf(Deferred.fromCoroutine(finality.search(attempt, [], known, 1)))
        self.assertGreater(min(tried), 1000)


class Report(SynchronousTestCase):
    def test_one_load(self) -> None:
        """Figures a payment: CPU of 1,000, bytes of one, shares of the machine."""
        self.patch(finality, "cores", lambda: 2)
        told = finality.figures(outcome(10.0))
        self.assertEqual(told["cpu_s_per_1000"], 10.0)
        self.assertEqual(told["bytes_per_payment"], 1000)
        self.assertEqual(told["peer_bytes_per_payment"], 700)
        self.assertEqual(told["nodes_cpu_share"], 0.05)
        self.assertEqual(told["per_second"], 10.0)
        self.assertIsNone(told["others_cpu_share"])
        self.assertIsNone(told["lock_p99_ms"])

    def test_medians_and_noise(self) -> None:
        """Counts are summed, times are medians with their range, and one bad run spoils the rate."""
        merged = finality.summary([outcome(10.0, ms=ms) for ms in (30.0, 10.0, 20.0)])
        self.assertEqual((merged["sent"], merged["p50_ms"], merged["sustained"]), (300, 20.0, True))
        self.assertEqual(merged["noise"]["p99_ms"], {"median": 20.0, "min": 10.0, "max": 30.0, "runs": 3})
        self.assertEqual(len(merged["runs"]), 3)
        spoilt = finality.summary([outcome(10.0), outcome(10.0, good=False)])
        self.assertEqual((spoilt["failed"], spoilt["sustained"]), (10, False))

    def test_the_headline(self) -> None:
        """The rate that was found; without a search the highest sustained; 0 if none is."""
        rates = [finality.summary([outcome(rate, good=rate < 300)]) for rate in (100.0, 200.0, 300.0)]
        told = finality.headline(rates, None, 1000.0)
        self.assertEqual((told["max_rate"], told["share_of_limit"], told["failed"]), (200.0, 0.2, 0))
        self.assertEqual(finality.headline(rates, 100.0, 1000.0)["max_rate"], 100.0)
        self.assertEqual(finality.headline(rates[2:], None, 1000.0)["max_rate"], 0.0)
        self.assertLessEqual(
            {"max_rate", "share_of_limit", "cpu_s_per_1000", "bytes_per_payment", "p50_ms", "p95_ms", "p99_ms"},
            told.keys(),
        )
        self.assertIsNone(finality.headline([], None, 1000.0)["max_rate"])

    def report(self) -> dict[str, Any]:
        rates = [finality.summary([outcome(100.0)]), finality.summary([outcome(200.0, good=False)])]
        report = {"masternodes": 7, "verify_us": 50.0, "limit": 5714.0, "seconds": 10.0, "rates": rates}
        tried = [{"rate": 300.0, "sustained": False, **finality.figures(outcome(300.0, good=False))}]
        return report | finality.headline(rates, 100.0, 5714.0) | {"tried": tried}

    def test_in_words(self) -> None:
        """A rate that was not sustained says so, and why; the search tells what it tried."""
        text = "\n".join(finality.text(self.report()))
        self.assertIn("NOT SUSTAINED (10 failed)", text)
        self.assertIn("searched: 300 no", text)
        self.assertIn("100/s", text)

    def test_drawn(self) -> None:
        """One network in three lines, several in one each."""
        ElementTree.fromstring(finality.draw([self.report()], "note"))
        svg = finality.draw([self.report(), self.report() | {"masternodes": 4}], "note")
        self.assertIn("p99, 4 masternodes", svg)

    def test_enough_coins(self) -> None:
        """A coin for every payment of the largest load."""
        plan = finality.Plan(7, (50.0, 200.0), 10.0, 1, False, 1)
        self.assertEqual(plan.coins, 2000)
        self.assertEqual(finality.Plan(7, (), 10.0, 1, True, 1).coins, finality.SEARCH_COINS)
