"""``timeproto status``: what it shows of the chain, and when a node is not well."""

from __future__ import annotations

import contextlib
import io
import json
import time
from typing import Any

from twisted.internet.defer import Deferred

from tests.test_cli.command import DEAD, NODE, CommandCase
from timeproto.cli import main
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import ask


class Status(CommandCase):
    def status(self, *argv: str) -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main.main(["status", "--node", NODE, *argv])
        return status, out.getvalue()

    def says(self, **fields: Any) -> None:
        """The node's own words, but for these."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            return message | fields if message["type"] == "Info" else message

        self.world.bend = bend

    def row(self, out: str, name: str) -> str:
        (row,) = [line.split(None, 1)[1] for line in out.splitlines() if line.split()[:1] == [name]]
        return row

    def test_before_the_first_block(self) -> None:
        """Height 0, and no time since a block that never was."""
        status, out = self.status()
        self.assertEqual(status, 0)
        self.assertTrue(self.row(out, "block").startswith("0, none yet, tip "))
        self.assertEqual((self.row(out, "synced"), self.row(out, "state")), ("yes", "well"))

    def test_the_chain(self) -> None:
        """Height, tip, age by this machine's clock, and what no block holds yet."""
        self.world.node.make_block()
        info = self.world.node.view.info()
        self.patch(time, "time", lambda: info.block_time / 1000 + 7.04)
        self.says(unconfirmed=3, in_flight=2, contested=1)
        _, out = self.status()
        self.assertTrue(self.row(out, "block").startswith(f"1, 7.0 s ago, tip {info.tip[:16]}"), out)
        self.assertIn("(3 in no block yet), 2 undecided (1 contested)", self.row(out, "payments"))

    def test_a_clock_that_is_behind(self) -> None:
        """A block from the future was made just now."""
        self.world.node.make_block()
        self.patch(time, "time", lambda: 0.0)
        self.assertIn(" 0.0 s ago", self.row(self.status()[1], "block"))

    def test_not_well(self) -> None:
        """Not voting, not synced, not there: status 1, and which of it."""
        for fields, name, words in (
            ({"degraded": ["quorum"]}, "state", "DEGRADED: no quorum is connected"),
            ({"degraded": ["quorum", "disk"]}, "state", "DEGRADED: no quorum is connected, its disk is almost full"),
            ({"voting": False, "not_voting": "it asks first"}, "voting", "NO: it asks first"),
            ({"synced": False}, "synced", "NO: the others have decided more"),
        ):
            self.says(**fields)
            status, out = self.status()
            self.assertEqual(status, 1)
            self.assertIn(words, self.row(out, name))
        self.says()
        status, out = self.status("--node", DEAD)
        self.assertEqual(status, 1)
        self.assertIn(f"no answer: {DEAD} cannot be reached", out)
        self.assertNotIn("TLS", out)

    def test_only_who_answers_agrees(self) -> None:
        """Of a node that says nothing nobody knows whether it agrees."""
        for nodes, last in (
            (("--node", NODE), "all agree"),
            (("--node", DEAD), "all that answered agree"),
            ((), "limits"),
        ):
            self.assertIn(last, self.status(*nodes)[1].strip().splitlines()[-1].lstrip())
        self.assertTrue(self.status("--node", NODE)[1].endswith("\nall agree\n"))

    def test_who_hangs_up_may_speak_tls(self) -> None:
        """A connection that stands and is closed without an answer: with whom, and what it may be."""
        gone = Deferred.fromCoroutine(self.hangs_up())
        self.patch(ask, "ask", lambda *_: gone)
        status, out = self.status()
        self.assertEqual(status, 1)
        self.assertIn(f"no answer: {NODE} closed the connection before it answered (does it speak TLS", out)

    async def hangs_up(self) -> None:
        raise ConnectionGone("the connection to 127.0.0.1 is lost")

    def test_somebody_elses_words_are_harmless(self) -> None:
        """Whatever a node says of itself: nothing the terminal obeys, no line that is not ours, and no traceback."""
        evil = "\x1b]0;owned\x07\x1b[2J\x9b1A\u202e\nnode key     mine"
        peer = {"node_key": "ab" * 32, "address": None, "direction": "none"}
        self.says(software=evil, voting=False, not_voting=evil, states={evil: {"coins": 1, "amount": evil}},
                  limits={evil: 1}, peers=[peer])  # fmt: skip
        lines = self.status()[1].split("\n")
        self.assertEqual([line for line in lines if not line.isprintable()], [])
        self.assertEqual(len(lines), 19)
        error = {"type": "Error", "id": 1, "code": "busy", "message": evil}
        self.world.bend = lambda message: error | {"id": message["id"]} if message["type"] == "Info" else message
        self.assertEqual([line for line in self.status()[1].split("\n") if not line.isprintable()], [])

    def test_for_programs(self) -> None:
        """One object for each node, with every field of the node's answer."""
        status, out = self.status("--json")
        told = json.loads(out)
        self.assertEqual((status, told["node"]), (0, NODE))
        for field in ("height", "tip", "block_time", "unconfirmed", "contested", "synced", "commitment"):
            self.assertIn(field, told)
