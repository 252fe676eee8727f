"""The OpenAPI document before strangers: a validator reads it, and schemathesis holds a real port to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator
from twisted.internet import reactor
from twisted.internet.defer import succeed
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.cluster import address
from tests.examples import plain
from tests.test_web.harness import Web
from tests.test_web.shop import Receiver, question, wish
from tests.test_web.test_node import RealWeb
from timeproto.web.hooks import Kept
from timeproto.web.targets import Targets
from timeproto.web.webhooks import Webhooks

EXAMPLES = 12
"""Cases generated for one operation, besides those that follow from its bounds alone."""
SETTINGS = """
max-stream-events = 1
request-timeout = 10

[checks.positive_data_acceptance]
# no schema can say what a checksum or a signature is: what only they refuse is 422
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429", "5xx"]

[checks.negative_data_rejection]
# wrong and too long besides
expected-statuses = ["400", "404", "405", "413", "414", "415", "422", "426", "431"]

[[operations]]
# a question without an upgrade: OpenAPI has no words for a WebSocket
include-path = "/v1/socket"
checks.positive_data_acceptance.expected-statuses = ["426"]
"""


class Judged(TestCase):
    timeout = 120

    def test_the_document_is_valid(self) -> None:
        """By the published schema of OpenAPI 3.1; a document with a hole in it is not."""
        document = Web().get("/openapi.json").json
        OpenAPIV31SpecValidator(document).validate()
        del document["info"]["title"]
        self.assertFalse(OpenAPIV31SpecValidator(document).is_valid())

    async def test_schemathesis_finds_nothing(self) -> None:
        """A thousand requests, right and wrong, to a node with a payment and a block: each answer as promised."""
        said, status = await self.judge(await self.serve())
        self.assertEqual(status, 0, said)
        self.assertIn("No issues found", said)

    async def test_schemathesis_would_find_it(self) -> None:
        """The judge is awake: a document that forgot a status is held against the site."""
        document = await self.serve()
        del document["paths"]["/v1/blocks/{height}"]["get"]["responses"]["404"]
        said, status = await self.judge(document, "--include-name", "GET /v1/blocks/{height}")
        self.assertEqual(status, 1, said)
        self.assertIn("Undocumented status code", said)

    async def serve(self) -> dict[str, Any]:
        """Opens the port of a node on which something happened; the document, with values that exist there."""
        web = RealWeb(reactor, make_webhooks)
        paid, fresh = web.payment(), web.payment(1)
        await web.alone.view.submit(paid)
        height = web.alone.make_block()
        port = reactor.listenTCP(0, web.service.site, interface="127.0.0.1")
        self.addCleanup(web.service.stopService)
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"
        known = {
            "outpoint": str(paid.outpoints[0]), "after": str(paid.outpoints[0]), "txid": paid.txid,
            "address": address(web.alone.wallets[0]), "height": height, "before": height + 1,
        }  # fmt: skip
        document: dict[str, Any] = Web().get("/openapi.json").json
        about: dict[str, Any] = {
            "genesis": web.alone.genesis, "node": web.alone.view.node_key, "at": reactor.seconds(),
        }  # fmt: skip
        owner = web.alone.wallets[0]
        bodies = {
            "/v1/transactions": fresh, "/v1/webhooks": wish(owner, **about),
            "/v1/webhooks/list": question(owner, **about),
        }  # fmt: skip
        for path, operations in document["paths"].items():
            for operation in operations.values():
                for parameter in operation.get("parameters", []):
                    if parameter["name"] in known and parameter["schema"]["type"] != "array":
                        parameter["examples"] = {"known": {"value": known[parameter["name"]]}}
                if "requestBody" in operation:
                    operation["requestBody"]["content"]["application/json"]["examples"] = {
                        "known": {"value": plain(bodies[path])}
                    }
        return document

    async def judge(self, document: dict[str, Any], *options: str) -> tuple[str, int]:
        """What schemathesis says of the site and the document, and its exit status."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "openapi.json").write_text(json.dumps(document), "utf-8")
        (folder / "settings.toml").write_text(SETTINGS, "utf-8")
        arguments = [
            "-m", "schemathesis.cli", "--config-file", "settings.toml", "run", "openapi.json",
            "--url", self.url, "--no-color", "--generation-deterministic",
            "--warnings", "off", "--max-examples", str(EXAMPLES), *options,
        ]  # fmt: skip
        out, err, status = await getProcessOutputAndValue(sys.executable, arguments, path=str(folder))
        return (out + err).decode("utf-8", "replace"), status


def make_webhooks(view: Any, feed: Any, metrics: Any) -> Webhooks:
    """Strangers may register; nothing happens on this node afterwards, so nobody is dialled."""
    return Webhooks(
        clock=reactor, view=view, feed=feed, metrics=metrics, poster=Receiver(), targets=Targets(), kept=Kept(),
        configured=[], wallets=True, save=lambda kept: succeed(None), now=reactor.seconds, random=bytes,
    )  # fmt: skip
