"""The suites of ``timeproto vectors``: each puts one case to the very code a node or wallet runs.

A suite is a function from a case's ``input`` (any JSON value) to what our code makes of it; it raises
:class:`~timeproto.errors.Refusal` for what our code refuses. docs/vectors.md gives the shapes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from timeproto import limits
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.model.address import address_of, require_address
from timeproto.model.canonical import is_hex
from timeproto.model.certificate import FinalityProof, check_proof
from timeproto.model.keys import KEY_SIZE, verify
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.merkle import MerkleTree, leaf_hash, root_from_path
from timeproto.model.transaction import Transaction, sighash
from timeproto.model.validation import check_stateless
from timeproto.model.vote import VoteBatch, vote_leaf
from timeproto.params import NETWORKS, NetworkParams
from timeproto.wallet import hd
from timeproto.wire.codec import decode, parse_json
from timeproto.wire.messages import FinalityProofs, TransactionBroadcast

Suite = Callable[[Any], Any]


def _bad(why: str) -> Refusal:
    return Refusal(ErrorCode.BAD_FIELD, why)


def _field(value: Any, name: str, kind: type = str) -> Any:
    if not isinstance(value, dict) or type(value.get(name)) is not kind:
        raise _bad(f"the input needs {name!r}, of type {kind.__name__}")
    return value[name]


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str) or not is_hex(text, len(text) // 2):
        raise _bad("bytes are written as lower-case hex")
    return bytes.fromhex(text)


def _hash(value: Any, name: str) -> str:
    text: str = _field(value, name)
    if not is_hex(text, 32):
        raise _bad(f"{name!r} is 32 bytes in lower-case hex")
    return text


def _params(value: Any) -> NetworkParams:
    name = _field(value, "network")
    if name not in NETWORKS:
        raise _bad(f"no network is called {name!r}")
    return NETWORKS[name]


def _through_the_wire(message_type: str, **fields: Any) -> Any:
    """A message of these fields, judged by the codec like any other."""
    return decode(json.dumps({"type": message_type, **fields}).encode("ascii"))


def frame(value: Any) -> str:
    """Hex of a whole frame, length and payload, as a masternode may send it → the message's type."""
    raw = _bytes(value)
    length, payload = int.from_bytes(raw[:4], "big"), raw[4:]
    if len(raw) >= 4 and length > limits.FRAME_PEER:
        raise Refusal(ErrorCode.FRAME_TOO_LARGE, f"a frame has at most {limits.FRAME_PEER} bytes")
    if len(raw) < 4 or length != len(payload) or not payload:
        raise Refusal(ErrorCode.BAD_FRAME, "a frame is its length in 4 bytes and just as many bytes, at least one")
    return type(decode(payload)).__name__


def json_text(value: Any) -> Any:
    """Hex of a JSON text, or ``{"text": …}`` → its value, under the rules of a frame's JSON but with no schema."""
    if isinstance(value, dict):
        return parse_json(_field(value, "text").encode("utf-8", "surrogatepass"))
    return parse_json(_bytes(value))


def utf8(value: Any) -> str:
    """Hex of bytes → the text they are. They are put to the codec as the inside of a JSON string."""
    escaped = b"".join(b"\\u%04x" % byte if byte < 0x20 or byte in b'"\\' else bytes([byte]) for byte in _bytes(value))
    text: str = parse_json(b'"' + escaped + b'"')
    return text


def ed25519(value: Any) -> None:
    """``{"public_key", "message", "signature"}``, in hex of any length."""
    key, message, signature = (_bytes(_field(value, name)) for name in ("public_key", "message", "signature"))
    if not verify(key, message, signature):
        raise Refusal(ErrorCode.BAD_SIGNATURE, "the signature is not this key's over this message")


def address(value: Any) -> dict[str, str]:
    """``{"network"}`` with ``"public_key"``, ``"address"`` or both → ``{"address"}``."""
    params = _params(value)
    claimed = require_address(_field(value, "address"), params) if "address" in value else None
    if claimed is not None and "public_key" not in value:
        return {"address": claimed}
    key = _bytes(_field(value, "public_key"))
    if len(key) != KEY_SIZE:
        raise _bad(f"a public key has {KEY_SIZE} bytes")
    computed = address_of(key, params)
    if claimed not in {None, computed}:
        raise Refusal(ErrorCode.BAD_ADDRESS, f"the address of this key is {computed}")
    return {"address": computed}


def bip39(value: Any) -> dict[str, str]:
    """``{"entropy"}`` or ``{"mnemonic"}``, and ``"passphrase"`` (none if absent) → ``{"mnemonic", "seed"}``."""
    passphrase = _field(value, "passphrase") if isinstance(value, dict) and "passphrase" in value else ""
    try:
        if isinstance(value, dict) and "entropy" in value:
            phrase = hd.phrase_of(_bytes(_field(value, "entropy")))
        else:
            phrase = hd.check_phrase(_field(value, "mnemonic"))
    except ConfigurationError as error:
        raise _bad(str(error)) from None
    return {"mnemonic": phrase, "seed": hd.seed_of(phrase, passphrase).hex()}


def slip10(value: Any) -> dict[str, str]:
    """``{"seed", "path"}`` (``m/0'/1'``) → ``{"private", "public", "chain_code"}`` by SLIP-0010 for Ed25519."""
    try:
        private, chain_code, public = hd.slip10(_bytes(_field(value, "seed")), _field(value, "path"))
    except ConfigurationError as error:
        raise _bad(str(error)) from None
    return {"private": private.hex(), "public": public.hex(), "chain_code": chain_code.hex()}


def merkle(value: Any) -> dict[str, Any]:
    """``{"leaves"}`` → root and every path; ``{"leaf", "index", "size", "path", "root"}`` → whether it leads there."""
    if isinstance(value, dict) and "leaves" in value:
        leaves = [_bytes(leaf) for leaf in _field(value, "leaves", list)]
        tree = MerkleTree(leaves)
        paths = [[node.hex() for node in tree.path(index)] for index in range(tree.size)]
        return {"root": tree.root.hex(), "paths": paths}
    leaf = _bytes(_field(value, "leaf"))
    path = [_bytes(node) for node in _field(value, "path", list)]
    root = root_from_path(leaf_hash(leaf), _field(value, "index", int), _field(value, "size", int), path)
    if root is None or root.hex() != _field(value, "root"):
        raise Refusal(ErrorCode.BAD_PROOF, "the path does not lead from this leaf to this root")
    return {"root": root.hex()}


def transaction(value: Any) -> dict[str, str]:
    """``{"tx", "genesis_hash", "network"}`` → ``{"canonical", "txid", "sighash"}`` if it is valid statelessly."""
    genesis_hash, params = _hash(value, "genesis_hash"), _params(value)
    message = _through_the_wire(TransactionBroadcast.__name__, tx=value.get("tx"))
    tx: Transaction = message.tx
    check_stateless(tx, params, genesis_hash)
    digest = sighash(tx.canonical, genesis_hash)
    return {"canonical": tx.canonical.hex(), "txid": tx.computed_txid, "sighash": digest.hex()}


def vote(value: Any) -> dict[str, Any]:
    """``{"batch", "genesis_hash"}`` → ``{"leaves", "root", "message"}`` if the voter signed the batch."""
    genesis_hash = _hash(value, "genesis_hash")
    batch = _through_the_wire(VoteBatch.__name__, **_field(value, "batch", dict))
    if not batch.verify(genesis_hash):
        raise Refusal(ErrorCode.BAD_VOTE, "the batch is not signed by its voter for this network")
    leaves = [vote_leaf(kind, txid).hex() for kind, txid in batch.votes()]
    return {"leaves": leaves, "root": batch.tree.root.hex(), "message": batch.message(genesis_hash).hex()}


def proof(value: Any) -> dict[str, Any]:
    """``{"proof", "masternodes", "genesis_hash"}`` → ``{"set", "quorum", "votes"}`` if it proves finality."""
    genesis_hash = _hash(value, "genesis_hash")
    message = _through_the_wire(FinalityProofs.__name__, proofs=[value.get("proof")])
    given: FinalityProof = message.proofs[0]
    keys = _field(value, "masternodes", list)
    if not all(is_hex(key, KEY_SIZE) for key in keys):
        raise _bad("'masternodes' are public keys in lower-case hex")
    try:
        masternodes = MasternodeSet(keys)
    except ValueError as error:
        raise _bad(str(error)) from None
    check_proof(given, masternodes, genesis_hash)
    return {"set": masternodes.hash, "quorum": masternodes.quorum, "votes": len(given.votes)}


SUITES: dict[str, Suite] = {
    "frame": frame,
    "json": json_text,
    "utf8": utf8,
    "ed25519": ed25519,
    "address": address,
    "bip39": bip39,
    "slip10": slip10,
    "merkle": merkle,
    "transaction": transaction,
    "vote": vote,
    "proof": proof,
}
