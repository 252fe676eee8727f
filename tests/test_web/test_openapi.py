"""The OpenAPI document is true: what it says of each route is what the route does."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, FEE, GENESIS, PAYMENT, address, build, plain
from tests.test_web.harness import encode
from tests.test_web.shop import Shop, question, wish
from timeproto.errors import ErrorCode
from timeproto.model.transaction import Outpoint
from timeproto.params import COIN

VALUES = {"outpoint": f"{GENESIS.hash}:0", "address": address(ALICE), "txid": PAYMENT.txid, "height": "1"}
STREAMS = ("/v1/events", "/v1/socket")


class Document(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Shop(configured=[])
        self.web.settle()
        answer = self.web.get("/openapi.json")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/json"))
        self.document: dict[str, Any] = answer.json
        self.routes = self.web.service.site.router.routes

    def schema(self, reference: dict[str, Any]) -> dict[str, Any]:
        name = reference.get("$ref", "").removeprefix("#/components/schemas/")
        found: dict[str, Any] = self.document["components"]["schemas"][name] if name else reference
        return found

    def test_every_route_and_no_other(self) -> None:
        """The document lists the server's routes, each under its method, and HEAD where there is a GET."""
        paths = self.document["paths"]
        listed = {(method.upper(), path) for path, operations in paths.items() for method in operations}
        served = {(route.method, route.path) for route in self.routes}
        heads = {("HEAD", path) for method, path in served if method == "GET" and path != "/v1/events"}
        self.assertEqual(listed, served | heads)
        self.assertEqual(self.document["openapi"], "3.1.0")
        names = [each["operationId"] for operations in self.document["paths"].values() for each in operations.values()]
        self.assertEqual(len(names), len(set(names)))

    def test_every_reference_leads_somewhere(self) -> None:
        """No schema refers to one that is not there, and no pattern is Python's alone."""
        text = json.dumps(self.document)
        names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
        self.assertEqual(names - set(self.document["components"]["schemas"]), set())
        self.assertNotIn(r"\\A", text)
        self.assertNotIn(r"\\Z", text)

    def test_the_codes_are_the_wires(self) -> None:
        """An error's code is one of the closed set."""
        error = self.document["components"]["schemas"]["Error"]
        self.assertEqual(error["properties"]["code"]["enum"], [str(code) for code in ErrorCode])

    def test_every_answer_fits_what_is_said_of_it(self) -> None:
        """Each route, asked with values that exist, answers with the status, type and fields that are documented."""
        self.web.node.pay(PAYMENT)
        self.web.node.decide()
        fresh = build([(Outpoint(GENESIS.hash, 2), BOB)], [(250 * COIN - FEE, address(BOB))])
        bodies = {"/v1/transactions": fresh, "/v1/webhooks": wish(), "/v1/webhooks/list": question()}
        for route in self.routes:
            if route.path in STREAMS:
                continue
            path = re.sub(r"\{(\w+)\}", lambda match: VALUES[match[1]], route.path)
            answer = self.web.post(path, encode(bodies[path])) if route.method == "POST" else self.web.get(path)
            documented = self.document["paths"][route.path][route.method.lower()]["responses"]
            self.assertEqual(answer.status, route.status, path)
            media = answer.headers["content-type"].partition(";")[0]
            self.assertEqual([media], list(documented[str(answer.status)]["content"]), path)
            if isinstance(route.answer, str):
                continue
            msgspec.json.decode(answer.body, type=route.answer)
            schema = self.schema(documented[str(answer.status)]["content"][media]["schema"])
            self.assertLessEqual(set(schema["required"]), set(answer.json), path)
            self.assertLessEqual(set(answer.json), set(schema["properties"]), path)

    def test_every_refusal_is_documented(self) -> None:
        """Refusals that can be provoked have a status that the document lists for the route."""
        wrong = {"outpoint": "ab" * 32 + ":0", "address": "TIME0x", "txid": "ab" * 32, "height": "77"}
        for route in self.routes:
            documented = self.document["paths"][route.path][route.method.lower()]["responses"]
            paths = [re.sub(r"\{(\w+)\}", lambda match: wrong[match[1]], route.path)]
            paths += [route.path.replace("{", "").replace("}", ""), paths[0] + "?unknown=1"]
            for path in paths:
                if route.method == "POST":
                    answer = self.web.post(path, encode(PAYMENT).replace(b'"fee"', b'"free"'))
                elif route.path == "/v1/events" and "?" not in path:
                    continue
                else:
                    answer = self.web.get(path)
                self.assertIn(str(answer.status), documented, path)
                if answer.status >= 400:
                    self.assertIn(answer.code, list(ErrorCode))

    def test_parameters(self) -> None:
        """Every parameter of a route is described, with its bounds and default."""
        for route in self.routes:
            described = self.document["paths"][route.path][route.method.lower()].get("parameters", [])
            self.assertEqual([each["name"] for each in described], [each.name for each in route.parameters])
        limit = self.document["paths"]["/v1/blocks"]["get"]["parameters"][1]
        self.assertEqual(limit["schema"], {"type": "integer", "minimum": 1, "maximum": 50, "default": 20})
        self.assertIn("TxOutput", self.document["components"]["schemas"])

    def test_states_have_one_name(self) -> None:
        """What msgspec cannot say of the tagged states is said."""
        tagged = self.document["components"]["schemas"]["TaggedState"]
        self.assertEqual((tagged["minProperties"], tagged["maxProperties"]), (1, 1))
        coin = self.web.get(f"/v1/coins/{VALUES['outpoint']}").json
        self.assertEqual(coin["output"], plain(GENESIS.allocations[0]))
