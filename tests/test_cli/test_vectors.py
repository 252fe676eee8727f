"""``timeproto vectors``: the golden files agree with our code, and with code that is not ours."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from twisted.trial.unittest import SynchronousTestCase

from tests import make_vectors
from timeproto.cli import suites, vectors
from timeproto.errors import ConfigurationError

FOLDER = make_vectors.FOLDER
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def cases(name: str, expect: str | None = None) -> Iterator[dict[str, Any]]:
    for case in json.loads((FOLDER / name).read_text("utf-8"))["cases"]:
        if expect in (None, case["expect"]):
            yield case


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Command(SynchronousTestCase):
    def put(self, suite: str, path: Path) -> tuple[int, list[dict[str, Any]], str]:
        """Exit status, lines printed and what was said on stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = vectors.run(argparse.Namespace(suite=suite, file=path))
        return status, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()

    def file(self, document: Any) -> Path:
        path = Path(self.mktemp())
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    def test_every_golden_file_agrees(self) -> None:
        """Each case of each file has the verdict and the value that the file expects."""
        found = set()
        for path in sorted(FOLDER.glob("*.json")):
            suite = json.loads(path.read_text("utf-8"))["suite"]
            status, lines, said = self.put(suite, path)
            self.assertEqual((status, said), (0, ""), path.name)
            expected = list(cases(path.name))
            self.assertEqual([line["id"] for line in lines], [case["id"] for case in expected])
            self.assertEqual(len({case["id"] for case in expected}), len(expected), f"{path.name} repeats an id")
            verdicts = {line["verdict"] for line in lines}
            self.assertEqual(verdicts, {"accept", "reject"}, path.name)
            found.add(suite)
        self.assertEqual(found, set(suites.SUITES))

    def test_the_names_of_the_suites(self) -> None:
        """The command line offers just the suites there are."""
        self.assertEqual(set(vectors.SUITE_NAMES), set(suites.SUITES))

    def test_a_disagreement_is_told(self) -> None:
        """Status 1 and the case's id, for a wrong verdict and for a wrong value."""
        good = next(cases("address.json", "accept"))
        for wrong in (good | {"expect": "reject"}, good | {"value": {"address": "TIME1x"}}, good | {"value": None}):
            status, lines, said = self.put("address", self.file({"cases": [good, wrong | {"id": "the bad one"}]}))
            self.assertEqual((status, len(lines)), (1, 2))
            self.assertEqual(said, "timeproto: 1 disagree: the bad one\n")
        _, _, said = self.put("address", self.file({"cases": [good | {"id": "\x1b[2J\n", "expect": "reject"}]}))
        self.assertTrue(said.rstrip("\n").isprintable())

    def test_a_corpus_of_somebody_else(self) -> None:
        """A bare array of cases, without expectations, with broken inputs: a line for each, and status 0."""
        inputs = [None, 1, "zz", "7B7D", "7b7", {}, [], "7b7d", {"text": "[1]"}, {"text": "\ud800"}, {"text": 1}]
        given = [{"id": at, "input": each} for at, each in enumerate(inputs)]
        for suite in vectors.SUITE_NAMES:
            status, lines, _ = self.put(suite, self.file(given))
            self.assertEqual((status, [line["id"] for line in lines]), (0, list(range(len(inputs)))), suite)
        _, lines, _ = self.put("json", self.file(given))
        accepted = [line["id"] for line in lines if line["verdict"] == "accept"]
        self.assertEqual(accepted, [7, 8])

    def test_values_are_compared_as_far_as_they_are_given(self) -> None:
        """Of an object only the expected fields count; a list must be whole; true is not 1."""
        def agrees(expected: Any, actual: Any) -> bool:
            return vectors.agrees({"value": expected}, {"verdict": "accept", "value": actual})

        self.assertTrue(agrees({"a": 1}, {"a": 1, "b": 2}))
        self.assertTrue(agrees({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}))
        for expected, actual in (({"a": 1}, {"b": 1}), ([1], [1, 2]), ([1, 2], [1]), (True, 1), (1, True), (1, 1.0),
                                 ("1", 1), (None, 0), ({}, []), ({"a": None}, {})):
            self.assertFalse(agrees(expected, actual), (expected, actual))

    def test_files_that_are_none(self) -> None:
        """No file, no JSON, no cases, cases without id or input, vectors of another suite: named in one sentence."""
        wrong = ["", "{", "[" * 100_000, "{}", "[]", {"cases": {}}, {"cases": []}, [1], [{"id": 1}], [{"input": 1}],
                 [{"id": 1, "input": 1, "expect": "maybe"}], {"suite": "json", "cases": [{"id": 1, "input": 1}]}]
        for path in [self.file(document) for document in wrong] + [Path("nowhere.json"), FOLDER]:
            error = self.assertRaises(ConfigurationError, vectors.load_cases, path, "utf8")
            self.assertIn(path.name, str(error))
            self.assertNotIn("\n", str(error))


class OurFiles(SynchronousTestCase):
    def test_no_format_has_drifted(self) -> None:
        """Made again, our files are byte for byte what they were: ``python -m tests.make_vectors`` if it is meant."""
        for name in make_vectors.OURS:
            self.assertEqual((FOLDER / name).read_text("utf-8"), make_vectors.document(name), name)

    def test_every_file_names_its_source(self) -> None:
        """Whoever finds a file knows what it holds and where it is from."""
        for path in FOLDER.glob("*.json"):
            document = json.loads(path.read_text("utf-8"))
            self.assertTrue(document["description"] and document["source"], path.name)
            self.assertEqual(document["source"] == "timeproto", path.name in make_vectors.OURS, path.name)


class IndependentPaths(SynchronousTestCase):
    """The accepted values once more, computed from the written rules with the standard library and cryptography."""

    def test_addresses(self) -> None:
        """TIME, the digit, and base58 of 20 bytes of SHA-256 with 4 of SHA-256d behind them."""
        for case in cases("address.json", "accept"):
            given = case["input"]
            if "public_key" not in given:
                continue
            payload = sha256(bytes.fromhex(given["public_key"]))[:20]
            raw = payload + sha256(sha256(payload))[:4]
            number, text = int.from_bytes(raw, "big"), ""
            while number:
                number, digit = divmod(number, 58)
                text = ALPHABET[digit] + text
            text = "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text
            prefix = "TIME1" if given["network"] == "mainnet" else "TIME0"
            self.assertEqual(case["value"]["address"], prefix + text)

    def test_transactions(self) -> None:
        """Canonical bytes field by field, txid, digest, and signatures that another library accepts."""
        for case in cases("transaction.json", "accept"):
            tx, genesis = case["input"]["tx"], bytes.fromhex(case["input"]["genesis_hash"])
            raw = len(tx["inputs"]).to_bytes(4, "little")
            owners = []
            for each in tx["inputs"]:
                key = bytes(each["script_sig"])
                owners += [key] if key not in owners else []
                raw += bytes.fromhex(each["previous_output"]["txid"])
                raw += each["previous_output"]["vout"].to_bytes(4, "little")
                raw += len(key).to_bytes(4, "little") + key + each["sequence"].to_bytes(4, "little")
            raw += len(tx["outputs"]).to_bytes(4, "little")
            for each in tx["outputs"]:
                text = each["address"].encode()
                raw += each["amount"].to_bytes(8, "little") + len(text).to_bytes(4, "little") + text
            raw += tx["timestamp"].to_bytes(8, "little", signed=True) + tx["fee"].to_bytes(8, "little")
            digest = sha256(b"timeproto/tx/v1" + genesis + raw)
            value = {"canonical": raw.hex(), "txid": sha256(sha256(raw)).hex(), "sighash": digest.hex()}
            self.assertEqual(case["value"], value, case["id"])
            self.assertEqual(tx["txid"], value["txid"])
            signature = bytes(tx["signature"])
            for at, key in enumerate(owners):
                Ed25519PublicKey.from_public_bytes(key).verify(signature[64 * at : 64 * at + 64], digest)

    def test_votes(self) -> None:
        """Leaves, root and message of each batch, and a signature that another library accepts."""
        for case in cases("vote.json", "accept"):
            batch = case["input"]["batch"]
            leaves = [bytes([kind]) + bytes.fromhex(txid)
                      for kind, name in ((1, "lock"), (2, "commit"), (3, "abort")) for txid in batch[name]]
            root = merkle_root(leaves)
            message = b"timeproto/vote/v1" + bytes.fromhex(case["input"]["genesis_hash"]) + bytes.fromhex(batch["set"])
            message += batch["height"].to_bytes(8, "little") + root
            value = {"leaves": [leaf.hex() for leaf in leaves], "root": root.hex(), "message": message.hex()}
            self.assertEqual(case["value"], value, case["id"])
            voter = Ed25519PublicKey.from_public_bytes(bytes.fromhex(batch["voter"]))
            voter.verify(bytes.fromhex(batch["signature"]), message)

    def test_merkle_roots(self) -> None:
        """The recursion of RFC 6962, for its own tree and for ours."""
        for name in ("merkle-rfc6962.json", "vote-merkle.json"):
            for case in cases(name, "accept"):
                if "leaves" in case["input"]:
                    leaves = [bytes.fromhex(leaf) for leaf in case["input"]["leaves"]]
                    self.assertEqual(case["value"]["root"], merkle_root(leaves).hex())

    def test_rfc_8032(self) -> None:
        """Another library makes the same public keys and signatures from the published secret keys."""
        for case in cases("ed25519.json", "accept"):
            given = case["input"]
            key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(given["secret_key"]))
            self.assertEqual(key.public_key().public_bytes_raw().hex(), given["public_key"])
            self.assertEqual(key.sign(bytes.fromhex(given["message"])).hex(), given["signature"])

    def test_libraries_do_disagree_on_the_edge_cases(self) -> None:
        """The other library accepts cases we refuse: the reason why one library decides everywhere."""
        accepted = []
        for number, case in enumerate(cases("ed25519-edge.json")):
            key, signature, message = (bytes.fromhex(case["input"][x]) for x in ("public_key", "signature", "message"))
            with contextlib.suppress(InvalidSignature, ValueError):
                Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
                accepted.append(number)
        ours = [number for number, case in enumerate(cases("ed25519-edge.json")) if case["expect"] == "accept"]
        self.assertEqual(ours, [3])
        self.assertTrue(set(ours) < set(accepted), accepted)

    def test_bip39(self) -> None:
        """PBKDF2 of the phrase is the seed."""
        for case in cases("bip39.json", "accept"):
            phrase = case["input"].get("mnemonic") or case["value"]["mnemonic"]
            salt = b"mnemonic" + case["input"].get("passphrase", "").encode()
            seed = hashlib.pbkdf2_hmac("sha512", phrase.encode(), salt, 2048)
            self.assertEqual(case["value"]["seed"], seed.hex(), case["id"])

    def test_slip10(self) -> None:
        """HMAC-SHA-512 step by step gives each key and chain code."""
        for case in cases("slip10.json", "accept"):
            digest = hmac.digest(b"ed25519 seed", bytes.fromhex(case["input"]["seed"]), "sha512")
            for step in case["input"]["path"].split("/")[1:]:
                index = int(step.removesuffix("'")) + 2**31
                digest = hmac.digest(digest[32:], b"\0" + digest[:32] + index.to_bytes(4, "big"), "sha512")
            public = Ed25519PrivateKey.from_private_bytes(digest[:32]).public_key().public_bytes_raw()
            value = {"private": digest[:32].hex(), "public": public.hex(), "chain_code": digest[32:].hex()}
            self.assertEqual(case["value"], value, case["id"])


def merkle_root(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return sha256(b"\x00" + leaves[0]) if leaves else sha256(b"")
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + merkle_root(leaves[:split]) + merkle_root(leaves[split:]))
