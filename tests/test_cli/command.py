"""``timeproto wallet``, from the command line to the exit status, against a masternode in memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nacl.pwhash import argon2id
from twisted.internet.defer import ensureDeferred, fail
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.cluster import COIN, address, pay
from tests.test_wallet.world import World
from timeproto.cli import main, running
from timeproto.wallet import hd, keystore
from timeproto.wallet.nodes import Node
from timeproto.wire import codec

PHRASE = "abandon " * 11 + "about"
PASSWORD = "correct horse"
NODE = "127.0.0.1:1"
DEAD = "127.0.0.1:9"
LONGEST = 60
"""Seconds of the world's time after which a command is taken to run for ever."""


@implementer(IStreamClientEndpoint)
class Nobody:
    """Where no node is."""

    def connect(self, protocolFactory: Any) -> Any:
        return fail(Refused())


class CommandCase(SynchronousTestCase):
    """Runs commands on the world's clock: the reactor they get is a ``Clock``, the nodes they dial are in memory."""

    def setUp(self) -> None:
        self.world = World(wallets=2, coins=4)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "wallet.json"
        self.genesis = self.folder / "genesis.json"
        self.genesis.write_bytes(codec.dump_document(self.world.node.genesis))
        self.dialled: list[Node] = []
        self.meanwhile: list[Callable[[], None]] = []
        self.patch(running, "run_until_done", lambda command: self._run_until_done(command))
        self.patch(Node, "endpoint", lambda node, reactor: self._endpoint(node))
        self.patch(keystore, "_key", self._cheap_key)
        self.patch(os, "environ", {**os.environ, "TIMEPROTO_WALLET_PASSWORD": PASSWORD})

    @staticmethod
    def _cheap_key(kdf: Any, password: str) -> bytes:
        salt = bytes.fromhex(kdf.salt)
        return bytes(argon2id.kdf(32, password.encode(), salt, opslimit=1, memlimit=8_192))

    def _endpoint(self, node: Node) -> Any:
        self.dialled.append(node)
        return self.world if node.address == NODE else Nobody()

    def _run_until_done(self, command: Any) -> int:
        async def begin() -> int:
            status: int = await command(self.world.clock)
            return status

        outcome: list[Any] = []
        ending = ensureDeferred(begin()).addBoth(outcome.append)
        for _ in range(LONGEST):
            if outcome:
                break
            self.world.run(1)
            if self.meanwhile and not outcome:
                self.meanwhile.pop(0)()
        if not outcome:  # somebody loses patience, and the process is gone
            ending.cancel()
            self.world.run(1)
            raise KeyboardInterrupt
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        status: int = outcome[0]
        return status

    def call(
        self, *argv: str, stdin: str | io.TextIOBase = "", node: str | None = NODE, out: io.StringIO | None = None
    ) -> tuple[int, str, str]:
        """(status, stdout, stderr) of ``timeproto wallet --wallet FILE --node … argv``."""
        out, err = out or io.StringIO(), io.StringIO()
        options = ["--wallet", str(self.file)] + ([] if node is None else ["--node", node])
        self.patch(sys, "stdin", io.StringIO(stdin) if isinstance(stdin, str) else stdin)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main.main(["wallet", *options, *argv])
            except SystemExit as ended:
                status = int(ended.code or 0)
        self.assertNotIn(PASSWORD, out.getvalue() + err.getvalue())
        return status, out.getvalue(), err.getvalue()

    def json(self, *argv: str, **more: Any) -> Any:
        status, out, err = self.call(*argv, "--json", **more)
        self.assertEqual(status, 0, err)
        self.assertEqual(out.count("\n"), 1)
        return json.loads(out)

    def refused(self, status: int, *argv: str, words: str = "", **more: Any) -> str:
        """The command ends with ``status``, nothing on stdout, and one sentence on stderr, which is returned."""
        found, out, err = self.call(*argv, **more)
        self.assertEqual((found, out), (status, ""), err)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertTrue(err.startswith("timeproto: "), err)
        self.assertIn(words, err)
        return err

    def fund(self, owner: Any, amount: int = 9 * COIN, coin: int = 0) -> str:
        node = self.world.node
        giver = node.wallets[1]
        owned = [o for o, out in node.genesis.coins() if out.address == address(giver)]
        tx = pay(node.genesis, [(owned[coin], 10 * COIN, giver)], [(address(owner), amount)])
        node.integration.process_transaction(tx)
        return tx.txid

    def restored(self) -> None:
        """A wallet of the published phrase, with 9 TIME."""
        self.fund(hd.derive(PHRASE))
        self.json("restore", "--genesis", str(self.genesis), stdin=PHRASE)
