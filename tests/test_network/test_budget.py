"""Who pays for what is asked: accounts, address blocks, what they share, and what costs what (fault H-27)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import PAYMENT
from tests.test_network.harness import Network, address
from tests.test_network.test_peer_manager import _wallet
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network import costs
from timeproto.network.budget import HELD_MOST, Account, Budgets, Overdrawn, block_of
from timeproto.network.purse import Purse
from timeproto.wire import messages
from timeproto.wire.messages import CATALOGUE, Role, senders_of

PAGE = Path(__file__).parent.parent.parent / "docs" / "wallet-protocol.md"
BLOCK = limits.COST_BLOCK_PER_SECOND


class Accounts(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.budgets = Budgets(self.clock)

    def refused(self, account: Account, cost: float = 1) -> Refusal:
        return self.assertRaises(Refusal, account.pay, cost)

    def test_a_burst_is_free_and_the_rest_waits(self) -> None:
        """Above its burst a connection is held back for as long as its rate needs; then it is as before."""
        account = self.budgets.open("127.0.0.1")
        account.pay(limits.COST_BURST)
        self.assertEqual(account.hold, 0)
        account.pay(limits.COST_PER_SECOND)
        self.assertAlmostEqual(account.hold, 1)
        self.clock.advance(1)
        account.pay(0)
        self.assertEqual(account.hold, 0)

    def test_neighbours_share(self) -> None:
        """Connections of one block share a bucket, over whatever they came; other blocks have their own."""
        one, two, other = (self.budgets.open(host) for host in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"))
        one.spend(limits.COST_BLOCK_BURST + BLOCK)
        for account in (two, other):
            account.pay(1)
        self.assertAlmostEqual(two.hold, 1, 2)
        self.assertEqual(other.hold, 0)

    def test_the_loopback_has_no_neighbours(self) -> None:
        """A proxy there is many people: each connection pays for itself alone."""
        one, two = self.budgets.open("127.0.0.1"), self.budgets.open("127.0.0.1")
        one.spend(100 * limits.COST_BLOCK_BURST)
        two.pay(1)
        self.assertEqual(two.hold, 0)

    def test_past_the_debt_it_is_refused_and_past_twice_sent_away(self) -> None:
        """The refusal says which limit, its value, the cost, and when to ask again; and then it is answered (N-26)."""
        one, two = self.budgets.open("192.0.2.1"), self.budgets.open("192.0.2.1")
        one.spend(limits.COST_BLOCK_BURST + BLOCK * (limits.DEBT + 1))
        refusal = self.refused(two, 100)
        self.assertEqual((refusal.code, refusal.policy.closes), (ErrorCode.OVER_LIMIT, False))
        self.assertEqual(refusal.details["limit"], "cost_block_per_second")
        self.assertEqual((refusal.details["value"], refusal.details["cost"]), (BLOCK, 100))
        wait = int(refusal.details["retry_after_ms"]) / 1000
        self.assertAlmostEqual(wait, 1, 2)
        self.clock.advance(wait + costs.REFUSED / BLOCK)
        two.pay(100)
        one.spend(BLOCK * limits.DEBT)
        self.assertIsInstance(self.refused(two), Overdrawn)
        self.assertTrue(self.refused(two).policy.closes)
        self.assertEqual((self.budgets.refused, self.budgets.sent_away), (1, 2))

    def test_what_is_refused_costs_little_but_not_nothing(self) -> None:
        """Nothing was done for it; and who goes on asking is sent away in the end."""
        account = self.budgets.open("127.0.0.1")
        account.spend(limits.COST_BURST + limits.COST_PER_SECOND * limits.DEBT + 1)
        before = account._own.level
        self.refused(account, 1_000)
        self.assertEqual(before - account._own.level, costs.REFUSED)
        asked = 0
        while not isinstance(self.refused(account, 1_000), Overdrawn):
            asked += 1
        self.assertLessEqual(asked, limits.COST_PER_SECOND * limits.DEBT / costs.REFUSED)

    def test_a_dear_request_is_never_impossible(self) -> None:
        """What was owed before counts, not what is asked: a request larger than the whole debt is served once."""
        account = Account(self.budgets, Purse(1, 1, self.budgets.pace), None)
        account.pay(1_000)
        self.assertEqual(account.hold, HELD_MOST)
        self.refused(account)

    def flood(self, connections: int, seconds: float, little: float = 0.2) -> tuple[float, float]:
        """What so many get a second that always have a request of 20 waiting, once their burst is spent, and the
        longest hold of one who asks little: so much each 5 ms."""
        greedy = [self.budgets.open("127.0.0.1") for _ in range(connections)]
        modest = self.budgets.open("127.0.0.1")
        due = dict.fromkeys(greedy, 0.0)
        served, held = 0, 0.0
        for turn in range(1_000 + round(seconds / 0.005)):
            served = served if turn > 1_000 else 0
            self.clock.advance(0.005)
            now, work = self.clock.seconds(), 400  # a busy core does no more in that time
            for account in sorted(greedy, key=due.__getitem__):
                while work > 0 and due[account] <= now:
                    account.pay(20)
                    served, work = served + 20, work - 20
                    due[account] = now + account.hold
            modest.pay(little)
            held = max(held, modest.hold)
        for account in (*greedy, modest):
            account.close()
        return served / seconds, held

    def test_any_number_together_gets_a_part_of_the_node(self) -> None:
        """The share of each shrinks until all fit, within a second; who asks for less than it is never held back."""
        for connections, little in ((50, 0.2), (500, 0.03)):
            served, held = self.flood(connections, 5, little)
            self.assertLess(served, 1.4 * limits.COST_NODE_PER_SECOND)
            self.assertGreater(served, 0.7 * limits.COST_NODE_PER_SECOND)
            self.assertEqual(held, 0)
        self.clock.advance(3)
        self.budgets.open("127.0.0.1").spend(1)
        self.assertEqual(self.budgets.pace.speed, 1)

    def test_what_is_given_back_slows_nobody(self) -> None:
        """A refusal in the next moment gives back what was asked in the one before: that is little, not too much."""
        for _ in range(50):
            self.budgets.open("127.0.0.1")
        for _ in range(20):
            self.budgets.pace.now(-130)
            self.clock.advance(0.1)
            self.budgets.pace.now(1)
        self.assertEqual(self.budgets.pace.speed, 1)

    def test_who_cannot_be_held_back_slows_nobody(self) -> None:
        """Whoever comes, sends garbage and comes again pays with its block; the wallets that are here do not."""
        modest = self.budgets.open("127.0.0.1")
        for _ in range(3_000):
            self.clock.advance(0.001)
            stranger = self.budgets.open("127.0.0.1", costs.TLS)
            stranger.garbage(100)
            stranger.close()
            modest.pay(1)
        self.assertEqual((self.budgets.pace.speed, modest.hold), (1, 0))

    def test_a_burst_is_left_to_everybody(self) -> None:
        """However crowded it is, who asked for nothing before may ask for something at once."""
        self.flood(50, 1)
        modest = self.budgets.open("127.0.0.1")
        self.budgets.pace.speed, self.budgets.pace.kept = 0.001, 0.05
        modest.pay(limits.COST_BURST // 25)
        self.assertEqual(modest.hold, 0)

    def test_newcomers_wait_while_too_many_come(self) -> None:
        """A thousand at once do not; a storm does, for a moment each, and when it is over it is soon forgotten."""
        for _ in range(limits.COST_NEWCOMERS_BURST // costs.TLS):
            self.budgets.open("127.0.0.1", costs.TLS)
        self.assertEqual(self.budgets.welcome, 0)
        for _ in range(100_000):
            self.budgets.open("127.0.0.1", costs.TLS).close()
        self.assertEqual(self.budgets.welcome, limits.WELCOME)
        self.clock.advance(limits.WELCOME)
        self.budgets.open("127.0.0.1")
        self.assertEqual(self.budgets.welcome, 0)

    def test_a_clock_that_is_put_back(self) -> None:
        """Costs nobody anything, and time goes on from there."""
        account = self.budgets.open("192.0.2.1")
        account.pay(limits.COST_BURST)
        self.clock.rightNow -= 3_600
        account.pay(limits.COST_PER_SECOND)
        self.assertAlmostEqual(account.hold, 1, 2)
        self.clock.advance(1)
        account.pay(0)
        self.assertEqual(account.hold, 0)

    def test_a_few_are_not_slowed(self) -> None:
        """One that asks all it may, with many that ask little, are less than the node's part."""
        served, held = self.flood(1, 5)
        self.assertLess(abs(served - limits.COST_PER_SECOND), 50)
        self.assertEqual((held, self.budgets.pace.speed), (0, 1))

    def test_comers_and_garbage_do_not_slow_the_others(self) -> None:
        """A thousand handshakes a second, each with garbage: nothing makes them ask for less, so nobody else does."""
        modest = self.budgets.open("127.0.0.1")
        for _ in range(3_000):
            self.clock.advance(0.001)
            account = self.budgets.open("127.0.0.1", costs.TLS)
            account.garbage(4_000)
            account.close()
            modest.spend(1)
        self.assertEqual((self.budgets.pace.speed, modest.hold), (1.0, 0.0))

    def test_blocks_are_remembered_while_connected_and_a_while_after(self) -> None:
        """A debt is not left behind by hanging up; the book of those who are gone is bounded, the oldest goes."""
        account = self.budgets.open("192.0.2.1")
        account.spend(limits.COST_BLOCK_BURST + 3 * BLOCK * limits.DEBT)
        self.assertTrue(self.budgets.is_overdrawn("192.0.2.1"))
        account.close()
        self.assertTrue(self.budgets.is_overdrawn("192.0.2.1"))
        last = self.budgets.open("192.0.2.2")
        for at in range(limits.BLOCKS_KNOWN + 10):
            self.budgets.open(f"2001:db8:{at >> 16:x}:{at & 0xFFFF:x}::1").close()
        self.assertEqual(len(self.budgets._idle), limits.BLOCKS_KNOWN)
        self.assertFalse(self.budgets.is_overdrawn("192.0.2.1"))
        self.assertEqual(list(self.budgets._busy), ["192.0.2.2"])
        last.close()
        self.assertEqual((self.budgets._busy, self.budgets.accounts), ({}, {}))
        self.assertFalse(self.budgets.is_overdrawn("127.0.0.1"))

    def test_blocks_of_addresses(self) -> None:
        """An IPv4 address stands for itself, mapped or not; of IPv6 a /64; the loopback for nobody."""
        self.assertEqual(block_of("10.0.0.1"), "10.0.0.1")
        self.assertEqual(block_of("::ffff:10.0.0.1"), "10.0.0.1")
        self.assertEqual(block_of("2001:db8::1"), block_of("2001:db8::ffff:1"))
        self.assertNotEqual(block_of("2001:db8::1"), block_of("2001:db8:0:1::1"))
        self.assertEqual(block_of("fe80::1%eth0"), block_of("fe80::2"))
        self.assertEqual(block_of("?"), "?")
        self.assertEqual([block_of(host) for host in ("127.0.0.1", "::1", "127.9.9.9", "::ffff:127.0.0.1")], [None] * 4)


class Prices(SynchronousTestCase):
    def test_more_work_costs_more(self) -> None:
        """Long queries and filters, many signatures and many bytes, beside a ping that costs 1."""
        ask = costs.of_request
        self.assertEqual(ask(messages.Ping(), 20), 1)
        items = ("a",) * limits.QUERY
        self.assertEqual(ask(messages.UTXOStateQuery(outpoints=items), 65_536), 1 + 3 * limits.QUERY // 8 + 16)
        watch = messages.UTXOSubscribe(subscriber_id="w", addresses=items[:500], outpoints=items[:500])
        self.assertEqual(ask(watch, 100), 2 + 3 * limits.FILTER // 8)
        cursor = messages.Cursor("ab" * 32, 1)
        self.assertEqual(ask(messages.UTXOSubscribe(subscriber_id="w", since=cursor), 100), 2 + costs.RESUMED)
        self.assertEqual(ask(messages.TransactionBroadcast(tx=PAYMENT), 1_000), 3 + len(PAYMENT.signature) // 64)
        self.assertEqual(costs.of_reply(messages.Pong(), 40_960), 10)
        coins = (messages.CoinState(PAYMENT.outpoints[0], "Unspent", PAYMENT.outputs[0]),) * 100
        page = messages.AddressUTXOs(address="a", cursor=cursor, coins=coins, more=False)
        self.assertEqual(costs.of_reply(page, 40_960), 10 + 50)
        self.assertGreater(costs.of_garbage(65_536), 100)

    def test_what_is_refused_costs_what_it_was_worth_looking_at(self) -> None:
        """Most for what its sender knew to be false, something for a payment without a fee; a full node is no crime."""
        fines = {code: costs.of_reply(messages.error_of(Refusal(code, "no")), 100) for code in ErrorCode}
        for code in (ErrorCode.BAD_SIGNATURE, ErrorCode.TXID_MISMATCH, ErrorCode.BAD_PROOF, ErrorCode.BAD_VOTE):
            self.assertEqual(fines.pop(code), costs.GARBAGE)
        for code in (ErrorCode.UNKNOWN_INPUT, ErrorCode.DOUBLE_SPEND, ErrorCode.NOT_OWNER, ErrorCode.FEE_TOO_LOW):
            self.assertEqual(fines[code], costs.UNPAID)
        for code in (ErrorCode.BUSY, ErrorCode.NOT_FOUND, ErrorCode.OVER_LIMIT, ErrorCode.NOT_VOTING):
            self.assertEqual(fines[code], 0)

    def test_the_page_names_every_price(self) -> None:
        """What docs/wallet-protocol.md says of each request that a wallet may send is what is asked for it."""
        rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
        told = {name: int(value) for name, value in rows if name in CATALOGUE}
        wallets = {name: kind for name, kind in CATALOGUE.items() if Role.WALLET in senders_of(kind)}
        asked = {name: costs.BASE.get(kind, costs.PLAIN) for name, kind in wallets.items()}
        self.assertEqual({name: asked[name] for name in told}, told)
        self.assertEqual({name for name, cost in asked.items() if cost != costs.PLAIN} - set(told), set())


class OverTcp(SynchronousTestCase):
    """A wallet's connection to a peer manager, at 192.0.2.7."""

    def setUp(self) -> None:
        self.network = Network()
        self.manager = self.network.add(0, [])
        self.network.start()
        self.wallet: Any = _wallet(self.network, self.manager)
        (self.server,) = self.manager._connections
        assert self.server.account is not None
        self.account = self.server.account

    def owe(self, seconds: float) -> None:
        self.account.spend(limits.COST_BLOCK_BURST + BLOCK * seconds)

    def test_it_is_refused_with_a_word_and_then_sent_away(self) -> None:
        """Over the bound one ``Error`` for each request; past twice the bound one more, and the end."""
        self.owe(limits.DEBT + 1)
        self.wallet.ask(messages.GetPeers(id=4))
        self.network.run(1)
        self.assertEqual(self.wallet.codes(), ["not_authorised"])
        other: Any = _wallet(self.network, self.manager)
        other.ask(messages.GetInfo(id=5))
        self.network.run(0)
        self.assertEqual(other.codes(), ["over_limit"])
        self.owe(limits.DEBT)
        last: Any = _wallet(self.network, self.manager)
        last.ask(messages.GetInfo(id=6))
        self.network.run(1)
        self.assertEqual(last.codes(), ["over_limit"])
        self.assertFalse(last.server.is_open)
        self.assertTrue(other.server.is_open)

    def test_nobody_new_from_there_but_a_masternode(self) -> None:
        """A crowd at an address keeps its own wallets out, not the masternode that stands behind the same one."""
        self.owe(3 * limits.DEBT)
        self.assertIs(self.manager.house.door("192.0.2.7"), False)
        self.assertIs(self.manager.house.door("192.0.2.8"), True)

    def test_garbage_is_paid_for_by_the_block(self) -> None:
        """Who sends it, is closed, and comes again finds its debt; nobody is banned for it."""
        before = self.account._block.level
        self.server.dataReceived(b"\x00\x00\x00\x04nope")
        self.assertEqual(before - self.account._block.level, costs.GARBAGE)
        self.assertEqual(self.manager.record.entries(), [])

    def test_a_false_payment_is_fined(self) -> None:
        """Its signature had to be checked to see it."""
        before = self.account._own.level
        self.server.send(messages.error_of(Refusal(ErrorCode.BAD_SIGNATURE, "no"), 1))
        self.assertEqual(before - self.account._own.level, costs.GARBAGE)

    def test_it_is_not_taken_for_dead_while_it_is_held_back(self) -> None:
        """However much is owed, it is read again before its silence is held against it."""
        self.wallet.ask(messages.GetInfo(id=1))
        self.network.run(0)
        self.owe(1.9 * limits.DEBT)
        self.server._hold_back()
        self.assertIsNotNone(self.server._held)
        self.assertLessEqual(self.account.hold, HELD_MOST)
        for _ in range(int(HELD_MOST) + 1):
            self.network.clock.advance(1)
        self.assertTrue(self.server.is_open)
        self.assertIsNone(self.server._held)

    def test_who_says_it_is_a_masternode_and_asks_is_a_wallet(self) -> None:
        """A Handshake with a masternode's key, which anybody knows, and no proof is no way past the budget."""
        machine = self.network.add(1, []).machine(dialled=True, binding=b"")
        for message in machine.begin():
            self.wallet.ask(message)
        self.network.run(0)
        self.assertFalse(self.server.is_greeted())
        self.owe(1)
        self.server._hold_back()
        self.assertIsNone(self.server._held)
        self.wallet.ask(messages.GetInfo(id=1))
        self.network.run(0)
        self.assertIsNotNone(self.server._held)

    def test_a_newcomer_waits_and_is_heard(self) -> None:
        """In a storm it is not read for a moment, its TLS handshake neither; then all it said is answered."""
        self.manager._budgets.newcomer(limits.COST_NEWCOMERS_BURST * 2)
        late: Any = _wallet(self.network, self.manager)
        late.ask(messages.GetPeers(id=1))
        self.network.run(limits.WELCOME - 0.5, 0.5)
        self.assertEqual(late.codes(), [])
        self.network.run(1, 0.5)
        self.assertEqual(late.codes(), ["not_authorised"])

    def test_who_leaves_while_it_waits(self) -> None:
        """Leaves nothing behind."""
        self.manager._budgets.newcomer(limits.COST_NEWCOMERS_BURST * 2)
        late: Any = _wallet(self.network, self.manager)
        self.assertIsNotNone(late.server._held)
        late.server.connectionLost(None)
        late._client.connectionLost(None)
        self.assertIsNone(late.server._held)
        self.assertNotIn(late.server, self.manager._connections)

    def test_a_masternode_proves_itself_through_a_crowd(self) -> None:
        """Its handshake is read at once whatever its neighbours owe, and then it owes nothing."""
        for other in list(self.manager._connections):
            other.abort()
        network = self.network
        peer = network.add(1, [0])
        account = self.manager._budgets.open("10.0.0.2")
        account.spend(limits.COST_BLOCK_BURST + BLOCK * 3 * limits.DEBT)
        peer.startService()
        network.run(2)
        self.assertEqual(len(self.manager.links), 1)
        self.assertEqual([link.account for link in self.manager.links.values()], [None])
        self.assertEqual(network.dials, [address(0)])
