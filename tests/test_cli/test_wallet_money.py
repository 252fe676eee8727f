"""``timeproto wallet``: what is there, paying, and waiting for it."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster import COIN, address
from tests.test_cli.command import PASSWORD, PHRASE, CommandCase
from timeproto.wallet import hd, keystore


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
