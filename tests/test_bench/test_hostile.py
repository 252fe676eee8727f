"""The hostile crowd and what is reported of it: weapons do what their names say, no promise is held by accident."""

from __future__ import annotations

import ssl
from typing import Any
from xml.etree import ElementTree

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.examples import GENESIS
from timeproto import limits
from timeproto.bench import hostile, weapons
from timeproto.bench.helper import Helper
from timeproto.bench.hostile import KINDS, Plan, Run
from timeproto.bench.load import Outcome
from timeproto.consensus.effects import Submit
from timeproto.consensus.verifier import Verifier
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.model.address import address_of
from timeproto.wire import codec
from timeproto.wire.messages import Role, senders_of

ADDRESS = address_of(bytes(32), GENESIS.params)


def payloads(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


class Weapons(SynchronousTestCase):
    def test_floods_are_allowed(self) -> None:
        """Whole frames of a wallet's size, of messages that a wallet may send: it is their number that is hostile."""
        for name, data in weapons.floods(GENESIS, (ADDRESS,)).items():
            for payload in payloads(data):
                self.assertLessEqual(len(payload), limits.FRAME_WALLET, name)
                self.assertIn(Role.WALLET, senders_of(type(codec.decode(payload))), name)

    def test_an_orphan_is_signed_and_a_forgery_is_not(self) -> None:
        """Both cost a node a signature check."""
        orphan, forged = weapons._orphan(GENESIS), weapons._forged(GENESIS)
        verifier = Verifier(GENESIS)
        self.assertEqual([refusal for _, refusal in verifier.check([(Submit(orphan, None), {})]).refused], [])
        refused = [refusal.code for _, refusal in verifier.check([(Submit(forged, None), {})]).refused]
        self.assertEqual(refused, [ErrorCode.BAD_SIGNATURE])

    def test_garbage_is_garbage(self) -> None:
        """No frame of it is a wallet's message."""
        for name, (_, data) in weapons.garbage().items():
            if "frame" in name and "random" not in name:
                continue  # good frames, to a port that speaks TLS
            size = int.from_bytes(data[:4], "big")
            if not 0 < size <= limits.FRAME_WALLET:
                continue
            try:
                message = codec.decode(data[4 : 4 + size])
            except Refusal:
                continue
            self.assertNotIn(Role.WALLET, senders_of(type(message)), name)

    def test_a_client_hello_is_one(self) -> None:
        """A TLS record of a handshake, whole (RFC 8446, 5.1)."""
        hello = weapons.client_hello(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self.assertEqual((hello[:2], len(hello)), (b"\x16\x03", 5 + int.from_bytes(hello[3:5], "big")))

    def test_everybody_comes_from_elsewhere(self) -> None:
        """An address for each attacker, all on the loopback, none of them an honest wallet's."""
        found = {weapons.source_of(kind, number) for kind in KINDS for number in range(2_000)}
        self.assertEqual(len(found), 2_000 * len(KINDS))
        self.assertTrue(all(each.startswith("127.1") and each != "127.0.0.1" for each in found))


def run(final: list[float], told: list[float], **changes: Any) -> Run:
    outcome = Outcome(10, len(final), sent=len(final), final=len(final), final_ms=final, seconds=1.0)
    outcome.sent += changes.pop("lost", 0)
    return Run(outcome, told, 0.1, 0.0, changes.pop("memory", 100 * 2**20), changes.pop("did", {}))


class Reports(SynchronousTestCase):
    """The promises, from runs that are made up."""

    plan = Plan(4, 2, dict.fromkeys(KINDS, 1), 10, 1, 1, 20_000)

    def report(self, *pairs: tuple[Run, Run], lost: int = 0, agree: bool = True) -> dict[str, Any]:
        case = self

        class Made:
            memory = {"alone": 50 * 2**20, "before": 60 * 2**20, "after": 70 * 2**20}
            calm = [calm for calm, _ in pairs]
            stormy = [stormy for _, stormy in pairs]

            def __init__(self, *_: Any) -> None:
                self.lost = lost
                self.agree = agree

            async def run(self) -> None:
                pass

        self.patch(hostile, "Measurement", Made)
        coroutine = hostile.measure(None, case.plan, None)  # type: ignore[arg-type]
        try:
            coroutine.send(None)
        except StopIteration as done:
            report: dict[str, Any] = done.value
            return report
        raise AssertionError("it waits for something")

    def broken(self, report: dict[str, Any]) -> list[str]:
        self.assertEqual(report["held"], all(report["promises"].values()))
        ElementTree.fromstring(hostile.draw(report, "note"))
        self.assertIn("ratio", "\n".join(hostile.text(report)))
        return [promise for promise, held in report["promises"].items() if not held]

    def test_all_held(self) -> None:
        """Twice as slow is allowed, and said."""
        report = self.report((run([10.0], [5.0, 6.0]), run([20.0], [10.0, 12.0], did={"deaf bytes": 7})))
        self.assertEqual(self.broken(report), [])
        self.assertEqual([report["ratios"][name]["p99"] for name in ("final", "notify")], [2.0, 2.0])
        self.assertIn("7 deaf bytes", "\n".join(hostile.text(report)))

    def test_each_promise_can_break(self) -> None:
        """Slower, lost, untold, told twice, cut off, too much memory: each by its name."""
        calm = run([10.0], [5.0, 5.0])
        cases = {
            "final p99 at most 2 times": run([21.0], [5.0, 5.0]),
            "notify p99 at most 2 times": run([10.0], [5.0, 11.0]),
            "every payment was told to all who watch, once": run([10.0], [5.0]),
            "memory within its bound": run([10.0], [5.0, 5.0], memory=2**30),
        }
        for promise, stormy in cases.items():
            self.assertEqual(self.broken(self.report((calm, stormy))), [promise])
        twice = run([10.0], [5.0] * 3)
        self.assertEqual(len(self.broken(self.report((calm, twice)))), 1)
        good = run([10.0], [5.0, 5.0])
        self.assertEqual(self.broken(self.report((calm, good), lost=1)), ["no honest wallet was cut off"])
        lost = run([10.0], [5.0, 5.0], lost=1)
        self.assertIn("every payment became final", self.broken(self.report((calm, lost))))
        self.assertEqual(self.broken(self.report((calm, good), agree=False)), ["the nodes agree"])

    def test_nothing_at_all_is_no_success(self) -> None:
        """A crowd that keeps everything from happening does not make a good ratio."""
        report = self.report((run([10.0], [5.0, 5.0]), run([], [])))
        self.assertIsNone(report["ratios"]["final"]["p99"])
        self.assertFalse(report["held"])


class Helpers(TestCase):
    """Children that serve a bench."""

    @inlineCallbacks
    def test_one_that_fails_says_why(self) -> Any:
        """What it was asked fails with its last words, and so does whatever it is asked afterwards."""
        helper = Helper(reactor, "timeproto.bench.nothing")
        for _ in range(2):
            error = yield self.assertFailure(helper.ask("gather"), ConfigurationError)
            self.assertIn("No module named", str(error))
        yield helper.end()

    @inlineCallbacks
    def test_its_end_is_ours(self) -> Any:
        """It ends when nobody tells it anything any more, before it was ever told anything too."""
        helper = Helper(reactor, "json.tool")
        yield helper.end()
        self.assertTrue(helper.is_over)
