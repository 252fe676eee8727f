"""``timeproto wallet``, from the command line to the exit status, against a masternode in memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
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

from tests.cluster import COIN, address, key, pay
from tests.test_wallet.world import World
from timeproto.cli import main, running, wallet
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

    def call(self, *argv: str, stdin: str = "", node: str | None = NODE) -> tuple[int, str, str]:
        """(status, stdout, stderr) of ``timeproto wallet --wallet FILE --node … argv``."""
        out, err = io.StringIO(), io.StringIO()
        options = ["--wallet", str(self.file)] + ([] if node is None else ["--node", node])
        self.patch(main.sys, "stdin", io.StringIO(stdin))
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


class Making(CommandCase):
    """``new`` and ``restore``."""

    def test_new_shows_its_phrase_once(self) -> None:
        """Words, numbered, with a warning; the address is the first of the phrase; the file is the owner's alone."""
        status, out, _ = self.call("new", "--genesis", str(self.genesis))
        self.assertEqual(status, 0)
        words = [word for word in out.split("in this order:")[1].split("Whoever")[0].split() if word.isalpha()]
        phrase = hd.check_phrase(" ".join(words))
        self.assertEqual(len(words), 12)
        self.assertIn(address(hd.derive(phrase)), out)
        self.assertIn("not shown again", out)
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        for word in words:  # names of fields, like "salt", are words too
            self.assertNotRegex(self.file.read_text(), f'"{word}"(?!:)')
        found = keystore.WalletFile.open(self.file, PASSWORD)
        self.assertEqual((found.phrase, found.receive_index), (phrase, 1))
        self.assertEqual(self.world.connections, 0)

    def test_new_as_json_and_with_more_words(self) -> None:
        """One object, everything in it."""
        told = self.json("new", "--words", "24", "--genesis", str(self.genesis))
        self.assertEqual(len(told["phrase"].split()), 24)
        self.assertEqual(told["address"], address(hd.derive(told["phrase"])))
        self.assertEqual((told["wallet"], told["genesis"]), (str(self.file), self.world.node.genesis.hash))

    def test_the_genesis_a_node_tells_is_trusted_aloud(self) -> None:
        """The hash and who said so, on stderr, to be compared."""
        status, out, err = self.call("new", "--json")
        self.assertEqual(status, 0, err)
        self.assertEqual(
            err,
            f"Trusting genesis {self.world.node.genesis.hash} as told by {NODE}: compare it with a source you trust.\n",
        )
        self.assertEqual(keystore.WalletFile.open(self.file, PASSWORD).genesis, self.world.node.genesis)
        json.loads(out)

    def test_never_over_another_wallet(self) -> None:
        """Neither by new nor by restore, and before anything is asked."""
        self.call("new", "--genesis", str(self.genesis))
        before = self.file.read_bytes()
        self.refused(2, "new", words="already")
        self.refused(2, "restore", stdin=PHRASE, words="already")
        self.assertEqual(self.file.read_bytes(), before)

    def test_restore_finds_what_was_paid(self) -> None:
        """Addresses by gap limit, spent ones too; the phrase comes from stdin or a file, and is never told."""
        self.fund(hd.derive(PHRASE, index=5))
        told = self.json("restore", "--genesis", str(self.genesis), stdin=f"  {PHRASE.upper()}\n")
        self.assertEqual((told["used_addresses"], told["total"]), (1, 9 * COIN))
        found = keystore.WalletFile.open(self.file, PASSWORD)
        self.assertEqual((found.receive_index, found.change_index), (6, 0))
        self.file.unlink()
        words = self.folder / "phrase"
        words.write_text(PHRASE)
        status, out, err = self.call("restore", "--genesis", str(self.genesis), "--phrase-file", str(words))
        self.assertEqual(status, 0, err)
        self.assertIn("1 addresses were used; they hold 9 TIME.", out)
        self.assertNotIn("abandon", out + err)

    def test_restoring_an_unused_phrase(self) -> None:
        """Is fine: a wallet with one address and nothing in it."""
        told = self.json("restore", "--genesis", str(self.genesis), stdin=PHRASE)
        self.assertEqual((told["used_addresses"], told["total"]), (0, 0))
        self.assertEqual(keystore.WalletFile.open(self.file, PASSWORD).receive_index, 1)

    def test_a_restore_that_fails_leaves_no_wallet(self) -> None:
        """Half the addresses would show half the money: no node, one that goes away, one that lies; then it works."""
        self.fund(hd.derive(PHRASE))
        restore = ("restore", "--genesis", str(self.genesis))
        self.refused(1, *restore, stdin=PHRASE, node=DEAD, words="no node could be reached")

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            return None if message["type"] == "AddressUTXOs" else message

        self.world.bend = bend
        self.meanwhile = [self.world.cut]
        self.refused(1, *restore, stdin=PHRASE)

        def lie(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "AddressUTXOs" and message["coins"]:
                message["coins"][0]["output"]["amount"] += 1
            return message

        self.world.bend = lie
        self.refused(1, *restore, stdin=PHRASE, words="cannot prove")
        self.assertEqual(sorted(os.listdir(self.folder)), ["genesis.json"])
        self.world.bend = lambda message: message
        self.assertEqual(self.json(*restore, stdin=PHRASE)["total"], 9 * COIN)

    def test_phrases_and_places_that_are_wrong(self) -> None:
        """Wrong words, no password, a folder that cannot be, a genesis that is none: status 2, no file."""
        self.refused(2, "restore", stdin="abandon abandon", words="12, 15, 18, 21 or 24 words")
        self.refused(2, "restore", stdin=PHRASE.replace("about", "abandon"), words="checksum")
        self.refused(2, "restore", "--phrase-file", str(self.folder / "none"), words="cannot be read")
        self.refused(2, "new", "--genesis", str(self.folder / "none"), words="cannot be read")
        bad = self.folder / "bad.json"
        bad.write_text("{}")
        self.refused(2, "new", "--genesis", str(bad), words="genesis")
        self.refused(2, "new", node=DEAD, words="--genesis")
        self.file = bad / "folder" / "wallet.json"
        self.refused(2, "new", "--genesis", str(self.genesis), words="cannot be made")
        del os.environ["TIMEPROTO_WALLET_PASSWORD"]
        self.file = self.folder / "wallet.json"
        self.refused(2, "new", words="no password")
        self.assertFalse(self.file.exists())

    def test_a_disk_that_takes_nothing(self) -> None:
        """Status 3, and no phrase is shown for a wallet that is not there."""

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", full)
        self.refused(3, "new", "--genesis", str(self.genesis), words="No space left")
        self.assertFalse(self.file.exists())

    def test_the_password_from_a_file_or_a_terminal(self) -> None:
        """Without its line end; typed twice for a new wallet, and the same both times."""
        kept = self.folder / "password"
        kept.write_text("s p a c e\r\n")
        status, _, err = self.call("new", "--genesis", str(self.genesis), "--password-file", str(kept))
        self.assertEqual(status, 0, err)
        keystore.WalletFile.open(self.file, "s p a c e")
        self.file.unlink()
        del os.environ["TIMEPROTO_WALLET_PASSWORD"]
        terminal = io.StringIO()
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        self.patch(main.sys, "stdin", terminal)
        for typed, status in ((["one", "two"], 2), (["one", "one"], 0)):
            answers = iter(typed)
            self.patch(wallet.getpass, "getpass", lambda prompt, answers=answers: next(answers))
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                argv = ["wallet", "--wallet", str(self.file), "new", "--genesis", str(self.genesis)]
                self.assertEqual(main.main(argv), status)
        keystore.WalletFile.open(self.file, "one")


class Money(CommandCase):
    """``address``, ``balance``, ``send``."""

    def setUp(self) -> None:
        super().setUp()
        self.restored()
        self.to = address(self.world.node.wallets[0])

    def test_a_balance_for_people_and_for_programs(self) -> None:
        """Decimal TIME on the screen, integers in JSON."""
        status, out, _ = self.call("balance")
        self.assertEqual(status, 0)
        rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
        self.assertEqual(rows["available"], ["9", "TIME"])
        self.assertEqual(
            self.json("balance"), {"available": 9 * COIN, "pending": 0, "locked": 0, "total": 9 * COIN}
        )

    def test_a_fresh_address_each_time(self) -> None:
        """Never the same, remembered, and the next one of the phrase."""
        first, second = self.json("address")["address"], self.call("address")[1].strip()
        self.assertEqual(first, address(hd.derive(PHRASE, index=1)))
        self.assertEqual(second, address(hd.derive(PHRASE, index=2)))
        self.assertEqual(keystore.WalletFile.open(self.file, PASSWORD).receive_index, 3)
        self.fund(hd.derive(PHRASE, index=2), coin=1)
        self.assertEqual(self.json("balance")["total"], 18 * COIN)

    def test_addresses_beyond_the_gap_come_with_a_warning(self) -> None:
        """A restore stops after twenty unpaid ones, so the twenty-first says it; JSON stays JSON."""
        purse = keystore.WalletFile.open(self.file, PASSWORD)
        for _ in range(19):
            purse.reserve_receive_index()
        self.assertEqual(self.call("address")[2], "")
        status, out, err = self.call("address", "--json")
        self.assertEqual((status, err.count("\n")), (0, 1))
        self.assertIn("never paid", err)
        json.loads(out)

    def test_a_payment_step_by_step(self) -> None:
        """Each state with its milliseconds, the last one the proof, with voters and quorum."""
        status, out, err = self.call("send", self.to, "1.5")
        self.assertEqual((status, err), (0, ""))
        lines = [line.split() for line in out.splitlines()]
        self.assertEqual(lines[0], ["Paying", "1.5", "TIME", "to", self.to])
        states = {line[2] for line in lines if len(line) == 3 and line[1] == "ms"}
        self.assertEqual(states, {"accepted", "Locked", "SpentPending", "SpentFinalized"})
        self.assertEqual(" ".join(lines[-1]), "final: the proof holds, 1 masternodes signed, 1 are needed")
        left = self.json("balance")["total"]
        self.assertEqual(left, 9 * COIN - COIN * 3 // 2 - 1_000)

    def test_a_payment_as_json(self) -> None:
        """One object: txid, integers, steps, and what was verified."""
        told = self.json("send", self.to, "0.00001")
        self.assertEqual((told["amount"], told["fee"], told["final"]), (1_000, 1_000, True))
        self.assertEqual((told["votes"], told["quorum"]), (1, 1))
        self.assertEqual(told["steps"][-1]["state"], "SpentFinalized")
        self.assertIsNotNone(self.world.node.store.transaction(told["txid"]))

    def test_payments_that_are_refused(self) -> None:
        """Too much, dust, another network's address: status 1 with the reason, and no money is held."""
        self.refused(1, "send", self.to, "9", words="TIME are needed")
        self.refused(1, "send", self.to, "0.00000999", words="dust")
        self.refused(1, "send", "TIME1abc", "1", words="address")
        for amount in ("1e3", "-1", "1,5", "0.000000001", ""):
            status, out, err = self.call("send", self.to, amount)
            self.assertEqual((status, out), (2, ""), err)
        self.assertEqual(self.json("balance")["available"], 9 * COIN)

    def test_a_node_that_refuses(self) -> None:
        """Its reason and its code, status 1; the coins are free again."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "TransactionAccepted":
                return {"type": "Error", "id": message["id"], "code": "double_spend", "message": "no\n\x1b[2J"}
            return None if message["type"] == "UTXOStateNotification" else message

        self.world.bend = bend
        status, _, err = self.call("send", self.to, "1", "--json")
        self.assertEqual((status, err.count("\n")), (1, 1))
        self.assertIn("double_spend", err)
        self.assertTrue(err.rstrip("\n").isprintable())
        self.assertEqual(keystore.WalletFile.open(self.file, PASSWORD).pending, ())

    def test_final_without_a_proof_is_not_final(self) -> None:
        """The node swears it is, and shows no proof: the command waits, never says so, and keeps the payment."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "UTXOStateNotification":
                message.pop("proof", None)
            return None if message["type"] == "FinalityProofs" else message

        self.world.bend = bend
        status, out, _ = self.call("send", self.to, "1")
        self.assertEqual(status, 130)
        self.assertIn("accepted", out)
        self.assertNotIn("SpentFinalized", out)
        self.assertNotIn("final:", out)
        self.assertEqual(len(keystore.WalletFile.open(self.file, PASSWORD).pending), 1)

    def test_given_up_by_its_user(self) -> None:
        """Ctrl-C while it is undecided: the payment is kept, said so, and the next command finds that it is final."""
        self.world.node.hold()
        status, out, err = self.call("send", self.to, "1")
        self.assertEqual(status, 130)
        self.assertIn("1 of this wallet's payments", err)
        self.assertNotIn("final:", out)
        txid = out.split("transaction ")[1].split()[0]
        self.assertEqual([tx.txid for tx in keystore.WalletFile.open(self.file, PASSWORD).pending], [txid])
        self.world.node.release()
        left = 8 * COIN - 1_000
        self.assertEqual(self.json("balance"), {"available": left, "pending": 0, "locked": 0, "total": left})
        self.assertEqual(keystore.WalletFile.open(self.file, PASSWORD).pending, ())
        self.assertEqual(self.json("proof", txid)["txid"], txid)

    def test_what_is_not_proven_is_not_counted_and_said(self) -> None:
        """A node that adds a coin: the balance is without it, with a warning beside it."""
        invented = {
            "outpoint": {"txid": self.world.node.genesis.hash, "vout": 9_999},
            "state": "Unspent",
            "output": {"amount": COIN, "address": address(hd.derive(PHRASE))},
        }

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed":
                message["states"].append(invented)
            return message

        self.world.bend = bend
        status, out, err = self.call("balance", "--json")
        self.assertEqual((status, json.loads(out)["total"]), (0, 9 * COIN))
        self.assertIn("not proven", err)

    def test_half_a_balance_is_not_shown(self) -> None:
        """The node goes away while coins are checked: status 1, and no number."""
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        self.meanwhile = [self.world.cut]
        self.refused(1, "balance", words="went away")


class Listening(CommandCase):
    """``watch`` and ``proof``."""

    def setUp(self) -> None:
        super().setUp()
        self.restored()

    def test_one_line_for_each_change(self) -> None:
        """What is there now, then a payment that comes: one JSON object a line, proven, and it stops by count."""
        self.meanwhile = [lambda: None, lambda: self.fund(hd.derive(PHRASE), COIN, coin=1) and None]
        status, out, err = self.call("watch", "--json", "--count", "2")
        self.assertEqual((status, err), (0, ""))
        now, then = [json.loads(line) for line in out.splitlines()]
        self.assertEqual((now["old_state"], now["new_state"], now["amount"]), (None, "Unspent", 9 * COIN))
        self.assertEqual((then["old_state"], then["new_state"], then["amount"]), (None, "Unspent", COIN))
        self.assertTrue(now["proven"] and then["proven"])

    def test_for_people(self) -> None:
        """Decimal TIME, and whether it is proven; as many lines as asked for, though there is more to tell."""
        self.fund(hd.derive(PHRASE), coin=1)
        status, out, _ = self.call("watch", "--count", "1")
        self.assertEqual((status, out.count("\n")), (0, 1))
        self.assertIn("9 TIME  Unspent  (proven)", out)

    def hint(self, status: str, **more: Any) -> None:
        """The node says that a payment is on its way."""
        output = {"amount": 3 * COIN, "address": address(hd.derive(PHRASE))}
        word = {"type": "TransactionStatus", "txid": "ab" * 32, "status": status}
        self.world.say(word | {"outputs": [{"vout": 0, "output": output}]} | more)

    def test_what_is_on_its_way_looks_like_no_coin(self) -> None:
        """Neither to people nor to programs: no line of a hint has an outpoint, says proven, or is counted."""
        for coin, as_json in ((1, True), (2, False)):
            self.meanwhile = [
                lambda: None,
                lambda: self.hint("locked", timestamp=1_000),
                lambda: self.hint("refused", conflicting_txid="cd" * 32),
                lambda coin=coin: self.fund(hd.derive(PHRASE), COIN, coin=coin) and None,  # type: ignore[misc]
            ]
            status, out, _ = self.call("watch", *(["--json"] if as_json else []), "--count", str(coin + 1))
            self.assertEqual(status, 0)
            lines = [line for line in out.splitlines() if "ab" * 32 in line]
            self.assertEqual((len(lines), len(out.splitlines())), (2, coin + 3))
            if as_json:
                locked, refused = map(json.loads, lines)
                self.assertEqual((locked["status"], locked["amount"], locked["timestamp"]), ("locked", 3 * COIN, 1_000))
                self.assertEqual((refused["status"], refused["conflicting_txid"]), ("refused", "cd" * 32))
                self.assertTrue({"outpoint", "proven", "new_state"}.isdisjoint(locked.keys() | refused.keys()))
            else:
                self.assertIn("on its way, says the node", lines[0])
                self.assertIn(f"will not come, says the node: {'ab' * 32}  3 TIME  refused, and cdcd", lines[1])
                self.assertNotIn("proven", "".join(lines))

    def test_a_payment_that_came_and_its_block(self) -> None:
        """After the coin: that it is final, as large as is proven and not as the node said, and its block."""
        txids: list[str] = []

        def comes() -> None:
            self.hint("seen", txid=self.next_txid())
            self.world.run(1)
            txids.append(self.fund(hd.derive(PHRASE), COIN, coin=1))
            self.world.node.make_block()
            self.world.run(1)

        self.meanwhile = [lambda: None, comes]
        _, out, _ = self.call("watch")
        self.assertRegex(out, rf"{txids[0]}:0 .*\n.*{txids[0]} is final: 1 TIME.*\n.*block 1 contains {txids[0]}")

    def next_txid(self) -> str:
        """Of the payment that ``fund`` makes next with coin 1."""
        giver = self.world.node.wallets[1]
        owned = [o for o, out in self.world.node.genesis.coins() if out.address == address(giver)]
        to = [(address(hd.derive(PHRASE)), COIN)]
        return pay(self.world.node.genesis, [(owned[1], 10 * COIN, giver)], to).txid

    def test_until_ctrl_c(self) -> None:
        """Without a count it goes on; interrupted, it is silent."""
        status, out, err = self.call("watch")
        self.assertEqual((status, out.count("\n"), err), (130, 1, ""))

    def test_counts_that_are_none(self) -> None:
        """Zero lines are not asked for by mistake and waited for for ever."""
        for count in ("0", "-1", "x", "1.5"):
            self.assertEqual(self.call("watch", "--count", count)[0], 2)

    def test_a_proof_is_fetched_verified_and_kept(self) -> None:
        """For people with the signers, as JSON whole, and in a file that decodes to the same."""
        txid = self.fund(hd.derive(PHRASE), COIN, coin=1)
        kept = self.folder / "proof.json"
        status, out, err = self.call("proof", txid, "--out", str(kept))
        self.assertEqual((status, err), (0, ""))
        self.assertIn(f"{txid} is final: the proof holds, 1 of 1 masternodes signed, 1 are needed", out)
        self.assertIn(key(1).public_hex, out)
        self.assertEqual(json.loads(kept.read_text()), self.json("proof", txid))

    def test_proofs_there_are_none_of(self) -> None:
        """Not a txid, not final, nobody to ask, a false proof, no place for it: a sentence each."""
        self.refused(2, "proof", "xyz", words="txid")
        self.refused(2, "proof", "AB" * 32, words="txid")
        self.refused(1, "proof", "ab" * 32, words="not_found")
        self.refused(1, "proof", "ab" * 32, node=DEAD, words="cannot be reached")
        txid = self.fund(hd.derive(PHRASE), COIN, coin=1)
        self.refused(3, "proof", txid, "--out", str(self.folder / "no" / "p.json"), words="cannot be kept")

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "TransactionInfo":
                message["proof"]["votes"][0]["signature"] = "00" * 64
            return message

        self.world.bend = bend
        kept = self.folder / "false.json"
        self.refused(1, "proof", txid, "--out", str(kept), words="cannot prove")
        self.assertFalse(kept.exists())


class Options(CommandCase):
    """What all commands share."""

    def test_before_or_after_the_command(self) -> None:
        """Both places mean the same; behind the command wins."""
        self.restored()
        plain = self.json("balance")
        self.assertEqual(self.json("balance", "--node", NODE, node=DEAD), plain)
        self.assertEqual(self.json("balance", node=NODE), plain)
        moved = self.folder / "moved.json"
        self.file.rename(moved)
        self.assertEqual(self.json("balance", "--wallet", str(moved)), plain)

    def test_the_next_node_when_one_fails(self) -> None:
        """For every command: the first one is dead."""
        self.restored()
        txid = self.fund(hd.derive(PHRASE), COIN, coin=1)
        self.assertEqual(self.json("balance", "--node", DEAD, "--node", NODE, node=None)["total"], 10 * COIN)
        self.assertEqual(self.json("proof", txid, "--node", DEAD, "--node", NODE, node=None)["txid"], txid)
        self.file.unlink()
        status, _, err = self.call("new", "--node", DEAD, "--node", NODE, node=None)
        self.assertEqual(status, 0)
        self.assertIn(f"as told by {NODE}", err)

    def test_keys_and_certificates_reach_the_node(self) -> None:
        """A pinned key, TLS by key, TLS by name."""
        self.restored()
        self.dialled.clear()
        self.call("balance", "--node-key", key(1).public_hex, "--tls", "--ca", "ca.pem")
        found = self.dialled[0]
        self.assertEqual((found.key, found.tls, found.ca), (key(1).public_hex, True, Path("ca.pem")))

    def test_an_access_key_reaches_the_node(self) -> None:
        """From its file, and never on the command line, where everybody could read it; one that is none is named."""
        self.restored()
        path = Path(self.mktemp())
        path.write_text("ab" * 32 + "\n")
        self.dialled.clear()
        self.call("balance", "--access-key-file", str(path))
        self.assertEqual(self.dialled[0].access_key, "ab" * 32)
        self.assertNotIn("ab" * 32, repr(self.dialled[0]))
        path.write_text("secret")
        self.refused(2, "balance", "--access-key-file", str(path), words="no access key")

    def test_a_pinned_key_that_is_none(self) -> None:
        """Is named at once, not after twenty seconds."""
        self.restored()
        before = self.world.clock.seconds()
        for bad in ("zz", "AB" * 32, "", "ab" * 31):
            self.refused(2, "balance", "--node-key", bad, words="--node-key")
        self.assertEqual(self.world.clock.seconds(), before)

    def test_nobody_there(self) -> None:
        """Patience has an end, and the end has a reason."""
        self.restored()
        for command in (("balance",), ("address",), ("send", address(key(5)), "1"), ("watch",)):
            self.refused(1, *command, node=DEAD, words="no node could be reached")

    def test_wallets_that_do_not_open(self) -> None:
        """None, a wrong password, somebody else's eyes on it."""
        self.refused(2, "balance", words="there is no wallet")
        self.restored()
        os.environ["TIMEPROTO_WALLET_PASSWORD"] = "wrong"
        self.refused(2, "balance", words="password")
        os.environ["TIMEPROTO_WALLET_PASSWORD"] = PASSWORD
        self.file.chmod(0o644)
        self.refused(2, "balance", words="chmod 600")

    def test_every_command_explains_itself(self) -> None:
        """``--help`` of each names its options, the shared ones too."""
        for command in ("new", "restore", "address", "balance", "send", "cancel", "watch", "proof"):
            status, out, _ = self.call(command, "--help")
            self.assertEqual(status, 0)
            for option in ("--json", "--node HOST:PORT", "--wallet FILE", "--password-file"):
                self.assertIn(option, out)

    def test_no_phrase_on_the_command_line(self) -> None:
        """Other users of the machine see those: there is no option for it."""
        status, out, _ = self.call("restore", *PHRASE.split())
        self.assertEqual((status, out), (2, ""))
