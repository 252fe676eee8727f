"""Our own golden vectors: ``python -m tests.make_vectors`` writes them, and a test compares them with the files.

A difference means that a format changed, which breaks every wallet and every other implementation. The published
vectors beside them (RFC 8032, RFC 6962, BIP-39, SLIP-0010 and the edge cases) are data and not made by anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.examples import (
    ALICE,
    BOB,
    CAROL,
    FEE,
    GENESIS,
    MASTERNODES,
    PAYMENT,
    STRANGER,
    VOTERS,
    address,
    build,
    key,
    plain,
    proof_of,
    replace,
)
from timeproto.model.certificate import FinalityProof
from timeproto.model.transaction import Outpoint, sighash
from timeproto.model.vote import VoteKind, sign_batch, vote_leaf
from timeproto.params import COIN
from timeproto.wire import codec
from timeproto.wire.messages import FinalityProofs, Ping, TransactionBroadcast, UTXOStateQuery

FOLDER = Path(__file__).parent / "vectors"
OTHER_GENESIS = "11" * 32
A, B, C = (f"{number:02x}" * 32 for number in (0xAA, 0xBB, 0xCC))

Case = dict[str, Any]


def accept(name: str, given: Any, value: Any) -> Case:
    return {"id": name, "input": given, "expect": "accept", "value": value}


def reject(name: str, given: Any, code: str) -> Case:
    return {"id": name, "input": given, "expect": "reject", "value": {"code": code}}


def addresses() -> list[Case]:
    cases = []
    for network in ("mainnet", "testnet", "devnet"):
        for owner in (ALICE, BOB, key(0), key(255)):
            given = {"network": network, "public_key": owner.public_hex}
            text = address(owner, network)
            cases.append(accept(f"{network}: key {owner.seed[0]}", given, {"address": text}))
            cases.append(accept(f"{network}: text {owner.seed[0]}", {"network": network, "address": text}, {}))
    good = address(ALICE)
    swapped = good[:8] + good[9] + good[8] + good[10:]
    wrong = {
        "of mainnet": address(ALICE, "mainnet"),
        "one character changed": good[:10] + ("2" if good[10] != "2" else "3") + good[11:],
        "two characters swapped": swapped,
        "cut short": good[:-1],
        "one character more": good + "1",
        "a leading 1 more": good[:5] + "1" + good[5:],
        "white space after it": good + " ",
        "a newline after it": good + "\n",
        "white space before it": " " + good,
        "lower-case prefix": "time" + good[4:],
        "a character base58 leaves out": good[:10] + "0" + good[11:],
        "unknown digit": "TIME2" + good[5:],
        "full-width digit": "TIME０" + good[5:],
        "prefix only": "TIME0",
        "empty": "",
        "far too long": good + "1" * 1000,
    }
    cases += [reject(name, {"network": "devnet", "address": text}, "bad_address") for name, text in wrong.items()]
    both = {"network": "devnet", "address": good}
    cases.append(accept("address and key agree", {**both, "public_key": ALICE.public_hex}, {"address": good}))
    cases.append(reject("address of another key", {**both, "public_key": BOB.public_hex}, "bad_address"))
    return cases


def transactions() -> list[Case]:
    def case(name: str, tx: Any, code: str | None = None, **other: str) -> Case:
        given = {"tx": tx if isinstance(tx, dict) else plain(tx), "genesis_hash": GENESIS.hash, "network": "devnet"}
        given |= other
        if code is not None:
            return reject(name, given, code)
        digest = sighash(tx.canonical, GENESIS.hash).hex()
        return accept(name, given, {"canonical": tx.canonical.hex(), "txid": tx.txid, "sighash": digest})

    first, second, third = (Outpoint(GENESIS.hash, vout) for vout in range(3))
    pay = [(COIN, address(BOB))]
    two_owners = build([(first, ALICE), (third, BOB), (second, ALICE)], [(1750 * COIN - FEE, address(CAROL))])
    cases = [
        case("one input, payment and change", PAYMENT),
        case("two owners, three inputs, two signatures", two_owners),
        case("before 1970", build([(first, ALICE)], pay, timestamp=-1)),
        case("largest fee", build([(first, ALICE)], [(1_000, address(BOB))], fee=2**64 - 1 - 1_000)),
        case("amount above 2^53", build([(first, ALICE)], [(2**53 + 1, address(BOB))])),
        case("fifty outputs", build([(first, ALICE)], [(1_000 + at, address(BOB)) for at in range(50)], fee=3_000)),
    ]
    body = plain(PAYMENT)

    def swap(**fields: Any) -> Any:
        return body | fields

    signature = bytes(PAYMENT.signature)
    order = (2**252 + 27742317777372353535851937790883648493) + int.from_bytes(signature[32:], "little")
    malleated = signature[:32] + order.to_bytes(32, "little")
    swapped = bytes(two_owners.signature)
    cases += [
        case("another txid", swap(txid=A), "txid_mismatch"),
        case("another fee, same txid", swap(fee=FEE + 1), "txid_mismatch"),
        case("another time, same txid", swap(timestamp=0), "txid_mismatch"),
        case("signed for another network", PAYMENT, "bad_signature", genesis_hash=OTHER_GENESIS),
        case("an address of another network", PAYMENT, "bad_address", network="mainnet"),
        case("signature with S + L", replace(PAYMENT, signature=tuple(malleated)), "bad_signature"),
        case("signatures in the wrong order", replace(two_owners, signature=tuple(swapped[64:] + swapped[:64])),
             "bad_signature"),
        case("one signature too few", replace(two_owners, signature=two_owners.signature[:64]), "invalid_transaction"),
        case("one signature too many", replace(PAYMENT, signature=PAYMENT.signature * 2), "invalid_transaction"),
        case("signature cut short", replace(two_owners, signature=two_owners.signature[:-1]), "invalid_transaction"),
        case("a coin twice", build([(first, ALICE), (first, ALICE)], pay), "invalid_transaction"),
        case("an output of nothing", build([(first, ALICE)], [(0, address(BOB))]), "dust"),
        case("an output below dust", build([(first, ALICE)], [(999, address(BOB))]), "dust"),
        case("no fee", build([(first, ALICE)], pay, fee=0), "fee_too_low"),
        case("fee one too low for its size",
             build([(first, ALICE)], [(1_000, address(BOB))] * 50, fee=2_999), "fee_too_low"),
        case("outputs sum past 2^64", build([(first, ALICE)], [(2**63, address(BOB))] * 2), "invalid_transaction"),
        case("outputs and fee sum past 2^64",
             build([(first, ALICE)], [(2**63, address(BOB)), (2**63 - 1, address(BOB))], fee=1), "invalid_transaction"),
        case("no inputs", swap(inputs=[]), "bad_field"),
        case("no outputs", build([(first, ALICE)], [], fee=10_000), "invalid_transaction"),
        case("no signature", swap(signature=[]), "invalid_transaction"),
        case("a field missing", {name: body[name] for name in body if name != "fee"}, "bad_field"),
        case("a field too many", swap(memo="thanks"), "bad_field"),
        case("negative fee", swap(fee=-1), "bad_field"),
        case("fee of 2^64", swap(fee=2**64), "bad_number"),
        case("fee as text", swap(fee="10000"), "bad_field"),
        case("fee as a boolean", swap(fee=True), "bad_field"),
        case("fee as a float", swap(fee=10000.0), "bad_number"),
        case("upper-case txid", swap(txid=PAYMENT.txid.upper()), "bad_field"),
        case("short txid", swap(txid=PAYMENT.txid[:-2]), "bad_field"),
        case("signature as hex", swap(signature=signature.hex()), "bad_field"),
        case("a byte of 256", swap(signature=[256, *signature[1:]]), "bad_field"),
        case("not an object", {"tx": 1}, "bad_field"),
    ]
    spent = body["inputs"][0]
    for name, fields in {
        "a sequence that is not final": {"sequence": 0},
        "a key of 31 bytes": {"script_sig": spent["script_sig"][:-1]},
        "a key of 33 bytes": {"script_sig": [*spent["script_sig"], 0]},
        "vout of 2^32": {"previous_output": {"txid": GENESIS.hash, "vout": 2**32}},
        "negative vout": {"previous_output": {"txid": GENESIS.hash, "vout": -1}},
    }.items():
        code = "txid_mismatch" if name.startswith("a sequence") else "bad_field"
        cases.append(case(name, swap(inputs=[spent | fields]), code))
    return cases


def votes() -> list[Case]:
    def signed(voter: Any = VOTERS[0], height: int = 0, genesis: str = GENESIS.hash, **kinds: Any) -> Any:
        return sign_batch(voter, genesis, MASTERNODES.hash, height, **kinds)

    batches = {
        "one lock vote": signed(lock=[A]),
        "one commit vote": signed(commit=[A]),
        "one abort vote": signed(abort=[A]),
        "all kinds": signed(lock=[A, B], commit=[B, C], abort=[C]),
        "seven votes": signed(lock=[f"{at:064x}" for at in range(7)]),
        "at a height": signed(height=2**40, lock=[A]),
        "by a stranger": signed(STRANGER, lock=[A]),
    }
    cases = []
    for name, given in batches.items():
        value = {
            "leaves": [vote_leaf(kind, txid).hex() for kind, txid in given.votes()],
            "root": given.tree.root.hex(),
            "message": given.message(GENESIS.hash).hex(),
        }
        cases.append(accept(name, {"batch": plain(given), "genesis_hash": GENESIS.hash}, value))
    whole = batches["all kinds"]
    body = plain(whole)
    changed = {
        "for another network": body,
        "by another voter": body | {"voter": VOTERS[1].public_hex},
        "for another set": body | {"set": A},
        "at another height": body | {"height": 1},
        "another lock vote": body | {"lock": [A, C]},
        "a lock vote less": body | {"lock": [A]},
        "lock and commit exchanged": body | {"lock": body["commit"], "commit": body["lock"]},
        "another signature": body | {"signature": "00" * 64},
    }
    for name, fields in changed.items():
        genesis = OTHER_GENESIS if name == "for another network" else GENESIS.hash
        cases.append(reject(name, {"batch": fields, "genesis_hash": genesis}, "bad_vote"))
    malformed = {
        "no votes": body | {"lock": [], "commit": [], "abort": []},
        "votes not ascending": body | {"lock": [B, A]},
        "a vote twice": body | {"lock": [A, A]},
        "upper-case voter": body | {"voter": body["voter"].upper()},
        "a txid too short": body | {"lock": [A[:-2]]},
        "negative height": body | {"height": -1},
    }
    for name, fields in malformed.items():
        cases.append(reject(name, {"batch": fields, "genesis_hash": GENESIS.hash}, "bad_field"))
    return cases


def proofs() -> list[Case]:
    keys = list(GENESIS.masternodes)

    def given(proof: Any, masternodes: Any = keys, genesis: str = GENESIS.hash) -> Any:
        shown = plain(proof) if isinstance(proof, FinalityProof) else proof
        return {"proof": shown, "masternodes": masternodes, "genesis_hash": genesis}

    value = {"set": MASTERNODES.hash, "quorum": 5, "votes": 5}
    good = proof_of(A)
    among = proof_of(A, beside=[B, C, f"{1:064x}"])
    body, vote = plain(good), plain(good)["votes"][0]

    def first(**fields: Any) -> Any:
        return body | {"votes": [vote | fields, *body["votes"][1:]]}

    single = MASTERNODES.__class__([VOTERS[0].public_hex])
    alone = proof_of(A, VOTERS[:1], set_hash=single.hash)
    late = proof_of(A, VOTERS[:4]).votes + proof_of(B, VOTERS[4:5]).votes
    return [
        accept("five of seven", given(good), value),
        accept("all seven", given(proof_of(A, VOTERS)), value | {"votes": 7}),
        accept("among other votes", given(among), value),
        accept("one masternode alone", given(alone, [VOTERS[0].public_hex]), {"quorum": 1, "votes": 1}),
        accept("masternodes in another order", given(good, keys[::-1]), value),
        reject("four of seven", given(proof_of(A, VOTERS[:4])), "bad_proof"),
        reject("no votes", given(body | {"votes": []}), "bad_field"),
        reject("a masternode twice", given(body | {"votes": [*body["votes"][:4], body["votes"][0]]}), "bad_proof"),
        reject("a stranger's vote", given(proof_of(A, [*VOTERS[:4], STRANGER])), "bad_proof"),
        reject("upper-case voter", given(first(voter=vote["voter"].upper())), "bad_field"),
        reject("one vote for another transaction", given(FinalityProof(A, MASTERNODES.hash, late)), "bad_proof"),
        reject("for another transaction", given(body | {"txid": B}), "bad_proof"),
        reject("lock votes", given(proof_of(A, kind=VoteKind.LOCK)), "bad_proof"),
        reject("abort votes", given(proof_of(A, kind=VoteKind.ABORT)), "bad_proof"),
        reject("for another network", given(good, genesis=OTHER_GENESIS), "bad_proof"),
        reject("for another set", given(proof_of(A, set_hash=B)), "bad_proof"),
        reject("checked with another set", given(good, keys[:-1]), "bad_proof"),
        reject("another height", given(first(height=1)), "bad_proof"),
        reject("another index", given(first(index=1)), "bad_proof"),
        reject("another size", given(first(size=2)), "bad_proof"),
        reject("a path where none is", given(first(path=[B])), "bad_proof"),
        reject("a path too long", given(first(path=[B] * 15)), "bad_field"),
        reject("another signature", given(first(signature="00" * 64)), "bad_proof"),
        reject("a masternode set with a key twice", given(good, [*keys[:-1], keys[0]]), "bad_field"),
    ]


def vote_trees() -> list[Case]:
    """Vote leaves and roots as plain Merkle cases, for those who have no batches yet."""
    cases = []
    for name, kinds in {
        "one lock vote": {"lock": [A]},
        "all kinds": {"lock": [A, B], "commit": [B, C], "abort": [C]},
    }.items():
        tree = sign_batch(VOTERS[0], GENESIS.hash, MASTERNODES.hash, 0, **kinds)
        leaves = [vote_leaf(kind, txid).hex() for kind, txid in tree.votes()]
        paths = [[node.hex() for node in tree.tree.path(at)] for at in range(tree.tree.size)]
        root = tree.tree.root.hex()
        cases.append(accept(name, {"leaves": leaves}, {"root": root, "paths": paths}))
        for at, leaf in enumerate(leaves):
            walk = {"leaf": leaf, "index": at, "size": len(leaves), "path": paths[at], "root": root}
            cases.append(accept(f"{name}, leaf {at}", walk, {"root": root}))
            other = "03" + leaf[2:] if leaf[:2] != "03" else "01" + leaf[2:]
            cases.append(reject(f"{name}, leaf {at} of another kind", walk | {"leaf": other}, "bad_proof"))
    return cases


def frames() -> list[Case]:
    def framed(payload: bytes, length: int | None = None) -> str:
        return ((len(payload) if length is None else length).to_bytes(4, "big") + payload).hex()

    ping = b'{"type":"Ping","id":1}'

    def nested(depth: int) -> bytes:
        return b'{"type":"UTXOStateQuery","outpoints":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    messages = [
        Ping(id=1),
        TransactionBroadcast(id=2, tx=PAYMENT),
        UTXOStateQuery(outpoints=(f"{A}:0",)),
        FinalityProofs(proofs=(proof_of(A),)),
        sign_batch(VOTERS[0], GENESIS.hash, MASTERNODES.hash, 0, lock=[A]),
    ]
    cases = [accept(type(sent).__name__, framed(codec.encode(sent)), type(sent).__name__) for sent in messages]
    cases += [
        accept("white space", framed(b' { "type" : "Ping" }\r\n'), "Ping"),
        accept("escaped key and type", framed(b'{"\\u0074ype":"P\\u0069ng"}'), "Ping"),
        accept("of a key given twice the last counts", framed(b'{"type":"Ping","id":1,"id":2}'), "Ping"),
        accept("nesting of 16", framed(nested(16)), "UTXOStateQuery"),
        reject("no bytes", "", "bad_frame"),
        reject("half a length", "000000", "bad_frame"),
        reject("empty frame", "00000000", "bad_frame"),
        reject("a byte missing", framed(ping, len(ping) + 1), "bad_frame"),
        reject("a byte too many", framed(ping, len(ping) - 1), "bad_frame"),
        reject("4 MiB and 1", framed(ping, 4 * 1024 * 1024 + 1), "frame_too_large"),
        reject("2 GiB", framed(b"", 2**31), "frame_too_large"),
        reject("4 GiB", framed(b"", 2**32 - 1), "frame_too_large"),
        reject("HTTP", b"GET / HTTP/1.1\r\n".hex(), "frame_too_large"),
    ]
    refused = {
        "bad_encoding": [b"\xef\xbb\xbf" + ping, b'{"type":"Ping\xff"}', b'{"type":"\xed\xa0\x80"}',
                         ping.decode().encode("utf-16")],
        "bad_json": [b"{", b"nothing", b'{"type":"Ping"}{}', b'{"type":"Ping"},', b'{"type":"Ping",}', b"[]", b"1",
                     b"null", b'"Ping"', b"{'type':'Ping'}", b'{"type":"Ping","id":NaN}', b'{"type":"Ping","id":01}',
                     b'{"type":"Ping","id":+1}', b'{"type":"Ping","id":1_0}', ping + b"\x00", b"\x00",
                     ping.decode().encode("utf-32-be"), b'{"type":"UTXOUnsubscribe","subscriber_id":"\\ud800"}'],
        "bad_number": [b'{"type":"Ping","id":1.0}', b'{"type":"Ping","id":1e2}', b'{"type":"Ping","id":1e999}',
                       b'{"type":"Ping","id":-0}', b'{"type":"Ping","id":18446744073709551616}',
                       b'{"type":"Ping","id":' + b"9" * 400 + b"}"],
        "too_deep": [nested(17), b"[" * 17, b'{"a":' * 17],
        "unsupported": [b"{}", b'{"type":null}', b'{"type":1}', b'{"type":["Ping"]}', b'{"type":"ping"}',
                        b'{"type":"Ping "}', b'{"type":"__class__"}', b'{"Type":"Ping"}'],
        "bad_field": [b'{"type":"Ping","id":"1"}', b'{"type":"Ping","id":true}', b'{"type":"Ping","id":-1}',
                      b'{"type":"Ping","id":9007199254740992}', b'{"type":"Ping","extra":1}',
                      b'{"type":"GetTransaction"}', b'{"type":"GetTransaction","txid":"' + b"A" * 64 + b'"}',
                      b'{"type":"GetTransaction","txid":"' + b"a" * 64 + b'\\n"}',
                      b'{"type":"GetTransaction","txid":"' + "１".encode() * 64 + b'"}',
                      b'{"type":"UTXOUnsubscribe","subscriber_id":""}',
                      '{"type":"UTXOUnsubscribe","subscriber_id":"\u202e"}'.encode()],
    }
    for code, payloads in refused.items():
        cases += [reject(f"{code} {at}", framed(payload), code) for at, payload in enumerate(payloads)]
    return cases


def json_texts() -> list[Case]:
    good: dict[str, Any] = {
        "{}": {}, "[]": [], "0": 0, "-1": -1, " 1 ": 1, "\t[1 ,\n2]\r": [1, 2], "true": True, "false": False,
        "null": None, '""': "", '"-0"': "-0", '"1.5"': "1.5", '"\\u00e9"': "é", '"é"': "é", '"\\ud83d\\ude00"': "😀",
        '"\\u0000"': "\x00", '"\\"\\\\\\/\\b\\f\\n\\r\\t"': '"\\/\b\f\n\r\t', '{"a":1,"a":2}': {"a": 2},
        '{"a":1,"\\u0061":2}': {"a": 2}, '{"":0}': {"": 0}, "18446744073709551615": 2**64 - 1,
        "-9223372036854775808": -(2**63), "9007199254740993": 2**53 + 1, '"\x7f"': "\x7f", '"\ufeff"': "\ufeff",
        '"\u2028"': "\u2028",
    }
    cases = [accept(text, text.encode().hex(), value) for text, value in good.items()]
    nested: Any = []
    for _ in range(15):
        nested = [nested]
    cases.append(accept("nesting of 16", ("[" * 16 + "]" * 16).encode().hex(), nested))
    bad = {
        "bad_number": ["-0", "[-0]", '{"a":-0}', "0.0", "1.0", "-0.0", "1e0", "1E2", "1e-2", "1.5", "1e999", "-1e999",
                       "18446744073709551616", "-9223372036854775809", "9" * 400, "9" * 5000],
        "bad_json": ["", " ", "{", "[", "]", "[1", "[1,]", "[,1]", "{,}", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}",
                     "{1:1}", "[1 2]", "1 2", "[]]", "nul", "True", "NaN", "Infinity", "-Infinity", "+1", "01", "-01",
                     ".5", "1.", "1e", "0x1", "1_0", "--1", "-", "'a'", '"', '"a', '"\\x"', '"\\u00g0"', '"\\ud800"',
                     '"\\udc00"', '"\\ud800\\u0061"', '"\\ude00\\ud83d"', '"\n"', '"\t"', '"\x00"', "\x0c1",
                     "\u00a01", "// 1", "/**/1", "１"],
        "too_deep": ["[" * 17 + "]" * 17, "[" * 17, '{"a":' * 17 + "1" + "}" * 17, "[" * 900],
    }
    for code, texts in bad.items():
        cases += [reject(f"{code} {at}: {text[:20]}", text.encode().hex(), code) for at, text in enumerate(texts)]
    bytes_ = {
        "byte order mark": b"\xef\xbb\xbf1", "UTF-16": '"a"'.encode("utf-16"), "stray byte": b'"\xff"',
        "encoded surrogate": b'"\xed\xa0\x80"', "overlong": b'"\xc0\xaf"', "cut short": b'"\xe2\x82"',
    }
    cases += [reject(name, raw.hex(), "bad_encoding") for name, raw in bytes_.items()]
    cases.append(accept("as text", {"text": '{"a": [1]}'}, {"a": [1]}))
    return cases


def texts() -> list[Case]:
    good = ["", "a", "\x00", "\x7f", '"\\', "é", "߿", "ࠀ", "\ud7ff", "\ue000", "\ufeff", "\uffff", "\U00010000",
            "\U0010ffff", "κόσμε", "😀"]
    cases = [accept(f"accepted {at}", text.encode().hex(), text) for at, text in enumerate(good)]
    bad = {
        "a continuation byte alone": "80", "another": "bf", "two of them": "8080",
        "a first byte alone, of two": "c3", "of three": "e2", "of three, with one": "e282", "of four": "f0",
        "of four, with two": "f09f98", "a first byte and ASCII": "c341", "of three and ASCII": "e28241",
        "overlong slash, two bytes": "c0af", "three bytes": "e080af", "four bytes": "f08080af", "overlong NUL": "c080",
        "overlong 7f": "c1bf", "overlong 7ff": "e09fbf", "overlong ffff": "f08fbfbf",
        "surrogate d800": "eda080", "surrogate dfff": "edbfbf", "a pair of surrogates": "eda0bdedb880",
        "past 10ffff": "f4908080", "far past it": "f5808080", "five bytes": "f888808080", "six bytes": "fc8480808080",
        "byte fe": "fe", "byte ff": "ff", "UTF-16 little-endian": "fffe6100", "UTF-16 big-endian": "feff0061",
        "Latin-1": "e9", "good, then bad": "6162ff",
    }  # fmt: skip
    cases += [reject(name, raw, "bad_encoding") for name, raw in bad.items()]
    return cases


OURS: dict[str, tuple[str, str, Callable[[], list[Case]]]] = {
    "address.json": ("address", "Addresses of public keys on each network, and texts that are none.", addresses),
    "transaction.json": (
        "transaction",
        "Canonical bytes, txid and the 32 bytes to sign, and transactions that are refused whatever coins exist."
        " Key n is the Ed25519 key whose seed is 32 times the byte n; 1 and 2 spend.",
        transactions,
    ),
    "vote.json": (
        "vote",
        "Vote batches: leaves, root and the bytes that are signed. Voters are the keys 101 to 107.",
        votes,
    ),
    "vote-merkle.json": ("merkle", "Vote batches as Merkle trees, with every path, and wrong leaves.", vote_trees),
    "proof.json": ("proof", "Finality proofs checked against a masternode set of seven, and forgeries.", proofs),
    "frame.json": ("frame", "Frames, length and payload, and the code each broken one is refused with.", frames),
    "json.json": ("json", "JSON texts under the rules of a frame, without a message's schema.", json_texts),
    "utf8.json": ("utf8", "Byte strings that are UTF-8 and that are not.", texts),
}


def document(name: str) -> str:
    """The text of our file ``name``."""
    suite, description, cases = OURS[name]
    whole = {"suite": suite, "description": description, "source": "timeproto", "cases": cases()}
    return json.dumps(whole, indent=1, ensure_ascii=True) + "\n"


def main() -> None:
    for name in OURS:
        (FOLDER / name).write_text(document(name), encoding="ascii")


if __name__ == "__main__":
    main()
