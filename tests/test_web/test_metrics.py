"""Numbers for Prometheus: text that its own parser reads, and labels that no client chooses (fault T-12)."""

from __future__ import annotations

from typing import get_args

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import PAYMENT
from tests.test_web.harness import Web, encode
from tests.test_web.sockets import Wallet
from timeproto.model.utxo_state import Confirmed
from timeproto.web.view import Figures
from timeproto.wire import messages


def samples(web: Web) -> dict[tuple[str, str], float]:
    """Every sample by its name and its one label's value."""
    answer = web.get("/metrics")
    families = text_string_to_metric_families(answer.body.decode("utf-8"))
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
    }


class Numbers(SynchronousTestCase):
    def test_the_text(self) -> None:
        """It has the content type that Prometheus expects, and its parser reads it."""
        web = Web()
        answer = web.get("/metrics")
        self.assertTrue(answer.headers["content-type"].startswith("text/plain; version="))
        self.assertGreater(len(list(text_string_to_metric_families(answer.body.decode("utf-8")))), 25)

    def test_the_node(self) -> None:
        """What Info says, and the node's own figures, as they are at the moment of the question."""
        web = Web()
        web.node.pay(PAYMENT)
        web.node.figured = Figures(
            gauges={"inbox": 7}, counters={"steps": 12}, messages={"GetInfo": 3, "<script>": 1}
        )
        found = samples(web)
        self.assertEqual(found["timeproto_final_transactions", ""], 1)
        self.assertEqual(found["timeproto_quorum_reached", ""], 1)
        self.assertEqual(found["timeproto_coins", "Unspent"], 4)
        self.assertEqual(found["timeproto_inbox", ""], 7)
        self.assertEqual(found["timeproto_steps_total", ""], 12)
        self.assertEqual(found["timeproto_messages_total", "GetInfo"], 3)
        self.assertNotIn(("timeproto_messages_total", "<script>"), found)

    def test_latencies(self) -> None:
        """From lock to proof, from a commit to its telling, of each route."""
        web = Web()
        web.post("/v1/transactions", encode(PAYMENT))
        web.clock.advance(0.15)
        web.node.pend(PAYMENT)
        web.node.finalize(PAYMENT)
        found = samples(web)
        self.assertEqual(found["timeproto_final_seconds_count", ""], 1)
        self.assertAlmostEqual(found["timeproto_final_seconds_sum", ""], 0.15)
        self.assertEqual(found["timeproto_notify_seconds_count", ""], web.node.position())
        self.assertEqual(found["timeproto_query_seconds_count", "/v1/transactions"], 1)

    def test_a_block_from_long_ago_is_no_slow_telling(self) -> None:
        """Confirmed bears its block's time: who catches up, or marks it later, would seem to tell it too late."""
        web = Web()
        web.node.pay(PAYMENT)
        web.node.decide()
        log = web.node.log
        told = [each for each in log if not isinstance(each.new_state, Confirmed)]
        self.assertLess(len(told), len(log))
        self.assertEqual(samples(web)["timeproto_notify_seconds_count", ""], len(told))

    def test_reactor_lag(self) -> None:
        """How late the last timer was."""
        web = Web()
        web.clock.advance(1)
        self.assertEqual(samples(web)["timeproto_reactor_lag_seconds", ""], 0)
        web.clock.advance(1.4)
        self.assertAlmostEqual(samples(web)["timeproto_reactor_lag_seconds", ""], 0.4, places=5)


class Labels(SynchronousTestCase):
    def test_no_client_chooses_one(self) -> None:
        """Whatever is asked, the values of all labels are routes, statuses, states and message types of our own."""
        web = Web()
        for path in ("/<script>", "/v1/coins/<script>", "/v1/coins/" + "ab" * 32 + ":1", "/v1/addresses/x?y=z", "/"):
            web.get(path)
            web.connect().ask("EVIL", path)
        wallet = Wallet(web)
        wallet.send(messages.GetInfo()).say(b'{"type":"Evil"}')
        routes = {route.path for route in web.service.site.router.routes}
        closed = routes | set(messages.CATALOGUE) | set(get_args(messages.Trouble)) | {"Unspent", "other", "+Inf", ""}
        values = {value for _, value in samples(web)}
        unknown = {value for value in values - closed if not value.replace(".", "").isdigit()}
        self.assertEqual(unknown, set())

    def test_names_are_ours(self) -> None:
        """A figure whose name is none, or is taken, is left out rather than breaking the whole text."""
        web = Web()
        web.node.figured = Figures(gauges={"bad name": 1, "Height": 1, "height": 99, "fine": 2})
        found = samples(web)
        self.assertEqual((found["timeproto_height", ""], found["timeproto_fine", ""]), (0, 2))
        self.assertEqual([name for name, _ in found if "bad" in name or "Height" in name], [])
