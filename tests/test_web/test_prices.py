"""What a request over HTTP cost and what is left, in its answer's headers; and keys, over HTTP and WebSocket."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, proof_of, replace
from tests.test_web.harness import Answer, Web
from tests.test_web.sockets import Wallet
from timeproto import limits
from timeproto.model.block import DecidedBlock, Verdict
from timeproto.network.budget import BUDGETS, Budgets
from timeproto.network.quota import Keys
from timeproto.web import bounds
from timeproto.wire import messages

ITEMS = ("x",) * 400


class Prices(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.keys = Keys(self.web.clock)
        self.web.service.site._budgets = Budgets(self.web.clock, self.keys)
        self.secret = self.keys.mint("shop", 50_000, 0)

    def left(self, answer: Answer) -> tuple[int, int, int]:
        """What may be asked at once, what is left of it, and what the request cost."""
        policy = re.fullmatch(r'"cost";q=(\d+);w=2', answer.headers["ratelimit-policy"])
        state = re.fullmatch(r'"cost";r=(\d+);t=\d+', answer.headers["ratelimit"])
        assert policy is not None
        assert state is not None
        return int(policy[1]), int(state[1]), int(answer.headers["timeproto-cost"])

    def test_every_answer_says_what_it_cost(self) -> None:
        """Good ones and refusals, and what is left goes down by just that."""
        connection = self.web.connect()
        most, before, cost = self.left(connection.ask("GET", "/live"))
        self.assertEqual((most, cost), (limits.COST_BURST, bounds.WEB_COST))
        for path, price in (("/v1/masternodes", 10), ("/v1/transactions/" + "ab" * 32, 2)):
            _, left, cost = self.left(connection.ask("GET", path))
            self.assertEqual((cost, before - left), (price * bounds.WEB_COST, cost))
            before = left

    def test_long_answers_cost_more(self) -> None:
        """One for each whole 4 KiB."""
        answer = self.web.get("/")
        self.assertEqual(self.left(answer)[2], bounds.WEB_COST + len(answer.body) // 4_096)

    def test_blocks_that_are_read_are_paid_for(self) -> None:
        """By what is in them, once, and each is a question of its own: what else waits for the node comes between."""
        decided = [self.web.node.decide() for _ in range(3)]
        verdict = Verdict("commit", "ab" * 32, proof_of("ab" * 32).votes)
        large = replace(decided[1], block=replace(decided[1].block, transactions=("cd" * 32,) * 640,
                                                  verdicts=(verdict,) * 100))
        questions, read = 0, self.web.node.read
        asked: list[int] = []

        def block(height: int) -> DecidedBlock:
            asked.append(questions)
            return large if height == 2 else decided[height - 1]

        def counted(question: Any) -> Any:
            nonlocal questions
            questions += 1
            return read(question)

        self.patch(self.web.node, "block", block)
        self.patch(self.web.node, "read", counted)
        connection = self.web.connect()
        _, before, _ = self.left(connection.ask("GET", "/live"))
        _, left, cost = self.left(connection.ask("GET", "/v1/blocks"))
        self.assertEqual((cost, before - left), (5 * bounds.WEB_COST + 640 // 64 + 600 // 8, cost))
        self.assertEqual(asked, [2, 3, 4])
        self.assertEqual(self.left(connection.ask("GET", "/v1/blocks"))[2], 5 * bounds.WEB_COST)

    def test_who_leaves_has_no_blocks_read(self) -> None:
        """A page of them is not looked up for nobody."""
        self.web.node.decide()
        self.web.node.held = []
        for path in ("/v1/blocks", "/v1/masternodes"):
            connection = self.web.connect().request("GET", path)
            self.patch(self.web.node, "block", self.fail)
            connection.lose()
        self.web.node.let_read()

    def test_a_key_pays_for_the_requests_that_show_it(self) -> None:
        """And for no other of the same connection."""
        connection = self.web.connect("192.0.2.1")
        most, left, _ = self.left(connection.ask("GET", "/live", Authorization=f"Bearer {self.secret}"))
        self.assertEqual((most, left), (limits.KEY_BURST * 50_000, most - bounds.WEB_COST))
        self.assertEqual(self.left(connection.ask("GET", "/live"))[0], limits.COST_BURST)
        self.assertEqual(self.keys.users("shop"), 0)

    def test_a_key_goes_on_where_its_neighbours_owe(self) -> None:
        """Who has one is served while the others of its block are refused."""
        other, connection = self.web.connect("192.0.2.1"), self.web.connect("192.0.2.1")
        other.channel.account.spend(limits.COST_BLOCK_BURST + limits.COST_BLOCK_PER_SECOND * (limits.DEBT + 5))
        self.assertEqual(connection.ask("GET", "/live").status, 429)
        self.assertEqual(connection.ask("GET", "/live", Authorization=f"Bearer {self.secret}").status, 200)

    def test_a_key_that_is_none(self) -> None:
        """401 with what is asked for, whatever else the header holds; nothing was done."""
        for text in (f"Bearer {'ab' * 32}", "Bearer", "Basic YTpi", f"bearer {self.secret}", f"Bearer {self.secret}x"):
            answer = self.web.get("/v1/node", Authorization=text)
            self.assertEqual((answer.status, answer.code), (401, "not_authorised"), text)
            self.assertEqual(answer.headers["www-authenticate"], "Bearer")
            self.assertNotIn(self.secret, answer.body.decode("utf-8"))

    def test_a_websocket_pays_by_the_key_it_was_opened_with(self) -> None:
        """Or by the one it shows in a request; and is told what things cost if it wants."""
        Wallet(self.web, Authorization=f"Bearer {self.secret}")
        self.assertEqual(self.keys.users("shop"), 1)
        wallet = Wallet(self.web)
        wallet.send(messages.UTXOStateQuery(id=1, outpoints=ITEMS))
        self.assertNotIn("charge", wallet.take()[-1])
        hello: Any = messages.Handshake(
            version=1, network="devnet", genesis=GENESIS.hash, role="wallet", node_key=None, listen=None,
            capabilities=(BUDGETS,), nonce="11" * 32,
        )  # fmt: skip
        wallet.send(hello).take()
        wallet.send(messages.UTXOStateQuery(id=2, outpoints=ITEMS))
        (answer,) = wallet.take()
        self.assertEqual(answer["charge"]["cost"], 1 + 3 * len(ITEMS) // 8)
        self.assertEqual(answer["charge"]["left"], wallet.connection.channel.account.left)

    def test_pipelining_without_an_end(self) -> None:
        """Answered later and later, with ever more waiting: one last answer says why, and the connection closes."""
        connection = self.web.connect()
        connection.channel.account.spend(limits.COST_BURST)
        connection.send(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40_000)
        answers = connection.answers()
        for _ in range(round(20 * (limits.HELD_ON_END + 2))):
            self.web.clock.advance(0.05)
            answers += connection.answers()
        self.assertEqual((answers[-1].status, answers[-1].headers["connection"]), (429, "close"))
        self.assertTrue(connection.wire.is_ended)

    def test_a_newcomer_waits_in_a_storm(self) -> None:
        """It is read when it is its turn, and answered as ever."""
        self.web.service.site._budgets.newcomer(limits.COST_NEWCOMERS_BURST * 2)
        connection = self.web.connect()
        self.assertTrue(connection.wire.is_paused)
        self.web.clock.advance(limits.WELCOME)
        self.assertFalse(connection.wire.is_paused)
        self.assertEqual(connection.ask("GET", "/live").status, 200)
        late = self.web.connect()
        late.lose()
        self.web.clock.advance(limits.WELCOME)

    def test_who_asks_on_is_sent_away(self) -> None:
        """Past twice the debt the connection closes with its answer."""
        connection = self.web.connect("192.0.2.1")
        connection.channel.account.spend(
            limits.COST_BLOCK_BURST + 2 * limits.COST_BLOCK_PER_SECOND * (limits.DEBT + 1)
        )
        answer = connection.ask("GET", "/live")
        self.assertEqual((answer.status, answer.headers["connection"]), (429, "close"))
