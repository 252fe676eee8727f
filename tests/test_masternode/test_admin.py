"""The operator's door and desk: a socket of the owner's alone, one question and one answer."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import struct
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.examples import VOTERS
from tests.test_network.harness import Network
from timeproto import limits
from timeproto.cli import admin as command
from timeproto.cli.main import main
from timeproto.errors import ConfigurationError, ErrorCode, ExitStatus, Refusal
from timeproto.masternode import admin as module
from timeproto.masternode import desk as desk_module
from timeproto.masternode.admin import LINE, NAME, TIME, Admin, AdminFactory, Door
from timeproto.masternode.desk import Answer, Ban, Connections, Desk, Kept, Mint, Revoke, load_keys, save_keys
from timeproto.network.budget import Budgets
from timeproto.network.quota import Key, Keys

NOW = 1_700_000_000_000
KEY = VOTERS[1].public_hex


class Office:
    """A desk over a real peer manager, budgets and keys; what it saves is kept in ``saved``."""

    def __init__(self, folder: Path | None = None) -> None:
        network = Network()
        self.clock = network.clock
        self.peers = network.add(0, [])
        self.keys = Keys(self.clock)
        self.budgets = Budgets(self.clock, self.keys)
        self.saved: list[tuple[Key, ...]] = []
        self.fails: Exception | None = None
        self.desk = Desk(peers=self.peers, budgets=self.budgets, keys=self.keys, save=self.save, now=lambda: NOW)

    def save(self, keys: tuple[Key, ...]) -> Deferred[Any]:
        if self.fails is not None:
            return fail(self.fails)
        self.saved.append(keys)
        return succeed(None)


class AtTheDesk(SynchronousTestCase):
    def setUp(self) -> None:
        self.office = Office()

    def hear(self, question: Any) -> Answer:
        return self.successResultOf(self.office.desk.hear(question, "user 0"))

    def test_bans_are_listed_and_lifted(self) -> None:
        """With how long they last; who is let in again is not in the list."""
        for _ in range(limits.MISBEHAVIOUR):
            self.office.peers.penalize(KEY, Refusal(ErrorCode.BAD_VOTE, "false"))
        self.office.clock.advance(1)
        self.assertEqual(self.hear(desk_module.Bans()).bans, (Ban(KEY, 0, int(limits.BAN - 1) * 1000),))
        self.assertIn(KEY, str(self.hear(desk_module.Unban(key=KEY)).done))
        self.assertEqual(self.hear(desk_module.Bans()).bans, ())
        self.assertIn("not shut out", str(self.hear(desk_module.Unban(key=KEY)).error))

    def test_a_key_is_told_when_it_is_kept(self) -> None:
        """Its secret is in the answer alone; the list shows what it allows and who uses it."""
        secret = self.hear(Mint(name="shop", cost_per_second=50_000)).secret
        self.assertIsNotNone(secret)
        self.assertNotIn(str(secret), repr(self.office.saved))
        self.office.budgets.open("192.0.2.1").use(secret)
        (line,) = self.hear(desk_module.ListKeys()).keys or ()
        self.assertEqual((line.name, line.cost_per_second, line.minted_at, line.connections), ("shop", 50_000, NOW, 1))
        self.assertIn("already", str(self.hear(Mint(name="shop", cost_per_second=1)).error))
        self.assertIn("worth nothing", str(self.hear(Revoke(name="shop")).done))
        self.assertEqual((self.hear(desk_module.ListKeys()).keys, self.office.saved[-1]), ((), ()))
        self.assertIn("no key named", str(self.hear(Revoke(name="shop")).error))

    def test_a_disk_that_is_full_makes_no_key(self) -> None:
        """What is not kept is not given out; and a key whose end is not kept is worthless all the same, and told so."""
        self.office.fails = OSError(28, "No space left on device")
        self.assertIn("No space", str(self.hear(Mint(name="shop", cost_per_second=1)).error))
        self.assertEqual(self.office.keys.kept, ())
        self.office.fails = None
        self.hear(Mint(name="shop", cost_per_second=1))
        self.office.fails = OSError(28, "No space left on device")
        self.assertIn("not saved", str(self.hear(Revoke(name="shop")).error))
        self.assertEqual(self.office.keys.kept, ())

    def test_a_fault_of_ours_is_an_answer(self) -> None:
        """And a line in the log."""
        self.office.fails = ZeroDivisionError("a bug of ours")
        self.assertIn("failed", str(self.hear(Mint(name="shop", cost_per_second=1)).error))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_connections_are_listed_by_what_they_asked(self) -> None:
        """As many as wanted; with all of them counted, and what was refused."""
        for at in range(5):
            self.office.budgets.open(f"192.0.2.{at}", way="web").spend(at)
        busy = self.office.budgets.open("127.0.0.1")
        busy.spend(limits.COST_BURST + limits.COST_PER_SECOND)
        crowd = self.hear(Connections(most=3)).crowd
        assert crowd is not None
        self.assertEqual((len(crowd.connections), crowd.total, crowd.speed_permille), (3, 6, 1000))
        first, second, _ = crowd.connections
        self.assertEqual((first.host, first.way, first.left, first.hold_ms), ("127.0.0.1", "tcp", 0, 1000))
        self.assertEqual((second.host, second.spent), ("192.0.2.4", 4))
        busy.close()
        crowd = self.hear(Connections()).crowd
        assert crowd is not None
        self.assertEqual(crowd.total, 5)


class KeysOnDisk(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_they_come_back_and_are_the_owners_alone(self) -> None:
        """Nothing before the first; then what was saved, in a file of mode 0600 without a secret."""
        self.assertEqual(load_keys(self.path), ())
        keys = Keys(Clock())
        secret = keys.mint("shop", 7, NOW)
        save_keys(self.path, keys.kept)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertNotIn(secret, self.path.read_text())
        self.assertEqual(Keys(Clock(), load_keys(self.path)).find(secret).name, "shop")

    def test_a_damaged_file_stops_the_start(self) -> None:
        """In one sentence that names it."""
        for text in (b"{", b'{"version": 2, "keys": []}', b'{"version": 1, "keys": [{"name": "x"}]}'):
            self.path.write_bytes(text)
            self.assertIn(str(self.path), str(self.assertRaises(ConfigurationError, load_keys, self.path)))
        self.assertEqual(Kept().keys, ())


class Asked(SynchronousTestCase):
    """The protocol, over a pretended socket."""

    def setUp(self) -> None:
        self.office = Office()
        self.factory = AdminFactory(self.office.clock, self.office.desk)
        self.allowed = True
        self.patch(module, "peer", lambda transport: (self.allowed, "user 0"))

    def connect(self) -> tuple[Any, Any]:
        protocol = self.factory.buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection
        protocol.makeConnection(transport)
        return protocol, transport

    def answer(self, line: bytes) -> dict[str, Any]:
        protocol, transport = self.connect()
        protocol.dataReceived(line)
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost(None)
        (text,) = transport.value().splitlines()
        found: dict[str, Any] = json.loads(text)
        return found

    def test_what_is_no_question(self) -> None:
        """One sentence, and the end; nothing is done."""
        for line in (
            b"", b"x", b"{}", b'{"do":"nothing"}', b'{"do":"mint","name":"a b","cost_per_second":1}', b"[" * 1_000,
            b'{"do":"mint","name":"a","cost_per_second":0}', b'{"do":"bans","more":1}', b'{"do":"unban","key":"x"}',
            b'{"do":"mint","name":"a","cost_per_second":1e3}', b"\xff", b"x" * LINE,
            b'{"x":' + b"[" * 1_900 + b"]" * 1_900 + b',"do":"bans"}',
        ):  # fmt: skip
            self.assertEqual(list(self.answer(line + b"\n")), ["error"], line[:40])
        self.assertEqual(list(self.answer(b"x" * (LINE + 1))), ["error"])
        self.assertEqual(self.office.keys.kept, ())

    def test_one_question_and_no_more(self) -> None:
        """What comes behind it is not looked at."""
        found = self.answer(b'{"do":"mint","name":"a","cost_per_second":1}\n{"do":"revoke","name":"a"}\n')
        self.assertEqual(list(found), ["secret"])
        self.assertEqual([each.name for each in self.office.keys.kept], ["a"])

    def test_who_says_nothing_is_sent_away(self) -> None:
        """The few places are for those who ask; and with nobody there is no timer."""
        for _ in range(module.AT_ONCE):
            self.connect()
        _, turned_away = self.connect()
        self.assertTrue(turned_away.disconnecting)
        waiting = tuple(self.factory.open)
        self.office.clock.advance(TIME)
        for protocol in waiting:
            self.assertTrue(protocol.transport.disconnecting)
            protocol.connectionLost(None)
        self.assertEqual((len(self.factory.open), self.office.clock.getDelayedCalls()), (0, []))

    def test_somebody_else_is_not_heard(self) -> None:
        """Whoever is neither the node's user nor root is gone before a word."""
        self.allowed = False
        protocol, transport = self.connect()
        self.assertTrue(transport.disconnecting)
        self.assertEqual((transport.value(), len(self.factory.open)), (b"", 0))
        protocol.connectionLost(None)

    def test_who_may_ask(self) -> None:
        """The system says who is at the other end: our own user and root."""
        self.patch(os, "geteuid", lambda: 1_000)
        for user, allowed in ((0, True), (1_000, True), (1_001, False)):
            told = struct.pack("3i", 7, user, 5)
            asker = SimpleNamespace(socket=SimpleNamespace(getsockopt=lambda level, option, size, told=told: told))
            self.assertEqual(peer_of(asker), (allowed, f"user {user} (process 7)"))


peer_of = module.peer


class Doors(TestCase):
    """A real socket in a real folder, and the command that speaks to it."""

    timeout = 30

    async def open(self, folder: Path) -> Office:
        office = Office()
        folder.mkdir(parents=True)
        service = Admin(reactor, folder, office.desk)
        service.listen()
        service.startService()
        self.addCleanup(service.stopService)
        self.service = service
        return office

    async def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """Status, output, complaints."""

        def run() -> tuple[int, str, str]:
            said, complained = io.StringIO(), io.StringIO()
            with redirect_stdout(said), redirect_stderr(complained):
                try:
                    status = main(["admin", "--datadir", str(self.folder), *arguments])
                except SystemExit as ended:
                    status = int(ended.code or 0)
            return status, said.getvalue(), complained.getvalue()

        return await deferToThread(run)

    async def test_every_command(self) -> None:
        """Asked of a node and told in plain lines; what cannot be done is one sentence and status 1."""
        self.folder = Path(self.mktemp()).absolute()
        office = await self.open(self.folder)
        self.assertEqual(stat.S_IMODE((self.folder / NAME).stat().st_mode), 0o600)
        self.assertEqual(await self.run_command("bans"), (ExitStatus.OK, "No masternode has a record.\n", ""))
        status, said, _ = await self.run_command("mint", "shop", "--cost-per-second", "50000")
        secret = said.split()[0]
        self.assertEqual((status, office.keys.find(secret).name), (ExitStatus.OK, "shop"))
        self.assertIn("shop", (await self.run_command("keys"))[1])
        office.budgets.open("192.0.2.1").use(secret)
        self.assertIn("key shop", (await self.run_command("connections"))[1])
        status, said, _ = await self.run_command("--json", "connections", "--most", "1")
        self.assertEqual(json.loads(said)["crowd"]["total"], 1)
        self.assertEqual((await self.run_command("revoke", "shop"))[0], ExitStatus.OK)
        status, said, complained = await self.run_command("revoke", "shop")
        self.assertEqual((status, said), (ExitStatus.REFUSED, ""))
        self.assertEqual(complained, "timeproto: there is no key named shop\n")
        office.peers.penalize(KEY, Refusal(ErrorCode.BAD_VOTE, "false"))
        self.assertIn("10 points", (await self.run_command("bans"))[1])
        self.assertEqual((await self.run_command("unban", KEY))[0], ExitStatus.OK)
        self.assertIn("bans", json.loads((await self.run_command("bans", "--json"))[1]))
        there, self.folder = self.folder, self.folder / "nowhere"
        self.assertEqual((await self.run_command("keys", "--datadir", str(there), "--json"))[0], ExitStatus.OK)
        self.assertIn("no data directory", (await self.run_command("keys"))[2])

    async def test_what_cannot_be_asked(self) -> None:
        """Is refused before the node is asked, in words and not in the terms of a schema; all that can be passes."""
        self.folder = Path(self.mktemp()).absolute()
        await self.open(self.folder)
        for arguments, words in (
            (("unban", "zz"), "'zz' is no masternode's key: 64 characters of lower-case hex"),
            (("mint", "bad name", "--cost-per-second", "1"), "'bad name' cannot be a name"),
            (("revoke", ""), "'' cannot be a name"),
            (("mint", "shop", "--cost-per-second", "0"), f"'0' is no number from 1 to {limits.KEY_COST_PER_SECOND}"),
            (("mint", "shop", "--cost-per-second", "1e3"), "'1e3' is no number"),
            (("connections", "--most", "0"), f"'0' is no number from 1 to {desk_module.ROWS}"),
        ):
            status, said, complained = await self.run_command(*arguments)
            self.assertEqual((status, said), (ExitStatus.CONFIGURATION, ""))
            self.assertIn(words, complained)
        for arguments in (("mint", "aZ0_.:-" + "x" * 57, "--cost-per-second", str(limits.KEY_COST_PER_SECOND)),
                          ("connections", "--most", str(desk_module.ROWS))):
            self.assertEqual((await self.run_command(*arguments))[0], ExitStatus.OK)

    async def test_a_long_path_and_a_socket_that_was_left(self) -> None:
        """A folder too deep for a socket's address is reached all the same; a killed node's socket is taken away."""
        self.folder = Path(self.mktemp()).absolute() / ("d" * 120)
        await self.open(self.folder)
        self.assertEqual((await self.run_command("keys"))[0], ExitStatus.OK)
        await self.service.stopService()
        self.assertFalse((self.folder / NAME).exists())
        self.assertEqual((await self.run_command("keys"))[0], ExitStatus.CONFIGURATION)
        door = Door(self.folder)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(door.path)
        door.close()
        self.assertIn("no node", (await self.run_command("keys"))[2])
        again = Admin(reactor, self.folder, Office().desk)
        again.listen()
        self.addCleanup(again.stopService)
        self.assertEqual((await self.run_command("keys"))[0], ExitStatus.OK)

    async def test_no_socket_is_no_reason_not_to_serve(self) -> None:
        """Something else in its place is left as it is, and the log says that no commands are taken."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        (self.folder / NAME).write_text("mine")
        service = Admin(reactor, self.folder, Office().desk)
        service.listen()
        self.assertEqual((self.folder / NAME).read_text(), "mine")
        await service.stopService()
        status, _, complained = await self.run_command("keys")
        self.assertEqual((status, complained.count("\n")), (ExitStatus.CONFIGURATION, 1))
        self.folder = self.folder / "nowhere"
        self.assertIn("no data directory", (await self.run_command("keys"))[2])

    async def test_who_hangs_on_does_not_keep_the_node(self) -> None:
        """Stopping cuts off whoever has not asked yet."""
        self.folder = Path(self.mktemp()).absolute()
        await self.open(self.folder)
        door = Door(self.folder)
        self.addCleanup(door.close)
        await connectProtocol(UNIXClientEndpoint(reactor, door.path), Protocol())
        await self.service.stopService()

    def test_an_answer_for_people(self) -> None:
        """Crowded nodes say how much of its share each has."""
        line = desk_module.ConnectionLine("192.0.2.1", "web", None, 5_000, 900, 0, 1_500)
        crowd = desk_module.Crowd((line,), 1, 2, 3, 125)
        text = "\n".join(command.tell(Answer(crowd=crowd)))
        self.assertIn("12.5 %", text)
        self.assertIn("held back 1.5 s", text)
        self.assertEqual(msgspec.json.decode(msgspec.json.encode(Answer(crowd=crowd)), type=Answer).crowd, crowd)
