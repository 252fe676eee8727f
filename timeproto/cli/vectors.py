"""``timeproto vectors SUITE FILE``: run test vectors, ours or anybody's, through our code (docs/vectors.md)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from timeproto.cli.terminal import warn
from timeproto.errors import ConfigurationError, ExitStatus, Refusal

SUITE_NAMES = (
    "frame",
    "json",
    "utf8",
    "ed25519",
    "address",
    "bip39",
    "slip10",
    "merkle",
    "transaction",
    "vote",
    "proof",
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "vectors",
        help="run test vectors through this implementation",
        description="Runs each case of FILE through our code and prints one JSON line for it:"
        ' {"id", "verdict": "accept" or "reject", "value"}.',
        epilog="Exit status: 0 if every case is as FILE expects, 1 if one is not, 2 if FILE cannot be read.",
    )
    parser.add_argument("suite", metavar="SUITE", choices=SUITE_NAMES, help=", ".join(SUITE_NAMES))
    parser.add_argument("file", metavar="FILE", type=Path, help="a JSON document of cases")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from timeproto.cli.suites import SUITES

    suite = SUITES[arguments.suite]
    disagreeing = []
    for case in load_cases(arguments.file, arguments.suite):
        outcome: dict[str, Any] = {"id": case["id"]}
        try:
            value = suite(case["input"])
            outcome |= {"verdict": "accept", "value": value}
        except Refusal as refusal:
            value = {"code": str(refusal.code), "message": refusal.message}
            outcome |= {"verdict": "reject", "value": value}
        print(json.dumps(outcome), flush=True)
        if not agrees(case, outcome):
            disagreeing.append(case["id"])
    if disagreeing:
        warn(f"{len(disagreeing)} disagree: {', '.join(map(str, disagreeing[:20]))}")
    return ExitStatus.REFUSED if disagreeing else ExitStatus.OK


def agrees(case: dict[str, Any], outcome: dict[str, Any]) -> bool:
    """Whether ``outcome`` is what ``case`` expects. What a case does not say, it does not expect."""
    return case.get("expect", outcome["verdict"]) == outcome["verdict"] and (
        "value" not in case or _matches(case["value"], outcome["value"])
    )


def _matches(expected: Any, actual: Any) -> bool:
    """Equal; of an object, the fields that are expected. A boolean is not a number."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return all(name in actual and _matches(value, actual[name]) for name, value in expected.items())
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(_matches, expected, actual))
    return type(expected) is type(actual) and bool(expected == actual)


def load_cases(path: Path, suite: str) -> list[dict[str, Any]]:
    """The cases of a file of vectors, each with an ``id`` and an ``input``; :class:`ConfigurationError` if it has none.

    The file is read leniently: what it asks may be refused, that it asks may not.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not a JSON document: {error}") from None
    if isinstance(document, dict) and document.get("suite", suite) != suite:
        raise ConfigurationError(f"{path} holds vectors of the suite {document['suite']!r}, not {suite!r}")
    cases = document.get("cases") if isinstance(document, dict) else document
    if not isinstance(cases, list) or not cases:
        raise ConfigurationError(f"{path} holds no cases")
    for number, case in enumerate(cases):
        if not isinstance(case, dict) or "id" not in case or "input" not in case:
            raise ConfigurationError(f"case {number} of {path} has no 'id' or no 'input'")
        if case.get("expect", "accept") not in ("accept", "reject"):
            raise ConfigurationError(f"case {case['id']!r} of {path} expects neither 'accept' nor 'reject'")
    return cases
