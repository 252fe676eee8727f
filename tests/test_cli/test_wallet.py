"""``timeproto wallet``, from the command line to the exit status, against a masternode in memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from tests.cluster import COIN, address, key, pay
from tests.test_cli.command import DEAD, NODE, PASSWORD, PHRASE, CommandCase
from tests.test_wallet.world import World
from timeproto.cli import main, wallet_setting
from timeproto.wallet import hd, keystore


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

    def test_a_lie_is_told_harmlessly(self) -> None:
        """What a node says that it cannot prove is its own text: nothing in it reaches the terminal raw."""
        self.fund(hd.derive(PHRASE))

        def lie(message: dict[str, Any]) -> dict[str, Any]:
            for coin in message["coins"] if message["type"] == "AddressUTXOs" else ():
                coin["output"]["address"] = "\x1b]0;owned\x07\x1b[2Jevil\n\x9b1A\u202e"
            return message

        self.world.bend = lie
        said = self.refused(1, "restore", "--genesis", str(self.genesis), stdin=PHRASE, words="evil")
        self.assertTrue(said.rstrip("\n").isprintable(), said)

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
        self.patch(sys, "stdin", terminal)
        for typed, status in ((["one", "two"], 2), (["one", "one"], 0)):
            answers = iter(typed)
            self.patch(wallet_setting.getpass, "getpass", lambda prompt, answers=answers: next(answers))
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                argv = ["wallet", "--wallet", str(self.file), "new", "--genesis", str(self.genesis)]
                self.assertEqual(main.main(argv), status)
        keystore.WalletFile.open(self.file, "one")


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

    def test_what_another_process_hands_out(self) -> None:
        """An address that is made while this one watches is watched, and so is what is paid there."""
        fresh: list[str] = []

        def elsewhere() -> None:
            purse = keystore.WalletFile.open(self.file, PASSWORD)
            index = purse.reserve_receive_index()
            fresh.append(address(hd.derive(PHRASE, index=index)))
            self.world.run(3)
            self.fund(hd.derive(PHRASE, index=index), COIN, coin=1)

        self.meanwhile = [lambda: None, elsewhere]
        status, out, err = self.call("watch", "--json", "--count", "2")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(json.loads(out.splitlines()[1])["address"], fresh[0])

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

    def test_an_access_key_that_the_node_does_not_take(self) -> None:
        """It is said: whoever pays for a quota learns why the node is slow."""
        self.restored()
        path = Path(self.mktemp())
        path.write_text("ab" * 32 + "\n")
        status, _, err = self.call("balance", "--access-key-file", str(path))
        self.assertEqual(status, 0)
        self.assertIn(f"{NODE} does not take the access key", err)
        self.assertNotIn("access key", self.call("balance")[2])

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
            said = self.refused(1, *command, node=DEAD, words="no node could be reached")
            self.assertIn(f"{DEAD}: Connection was refused", said)

    def test_a_node_of_another_network(self) -> None:
        """It will not become one of this one: who has no other node to ask need not wait."""
        self.restored()
        self.world.node.genesis = World(wallets=3).node.genesis
        self.world.manager = self.world.serve(1, self.world.node.handler)
        before = self.world.clock.seconds()
        self.refused(1, "balance", words="genesis")
        self.assertLess(self.world.clock.seconds() - before, 5)

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
