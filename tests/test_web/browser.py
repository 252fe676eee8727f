"""A real browser without a window, driven over two pipes: the DevTools protocol is JSON between zero bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater

NAMES = ("chromium", "chromium-browser", "google-chrome")
STARTING = 60.0
"""Seconds for a cold start on a busy machine."""
ANSWERING = 30.0
CLOSING = 10.0
_TO, _FROM = 3, 4


@cache
def installed() -> str | None:
    """Where the browser is, None if there is none here, or only a signpost to one."""
    return next((found for found in map(shutil.which, NAMES) if found is not None and _runs(found)), None)


def _runs(program: str) -> bool:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, timeout=STARTING, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0


class Browser(ProcessProtocol):
    """One process with one tab. ``faults`` are what a page's console and policy complained of."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        """``folder`` takes its profile."""
        self._reactor = reactor
        self._folder = folder
        self._buffer = b""
        self._asked: dict[int, Deferred[Any]] = {}
        self._number = 0
        self._session: str | None = None
        self._words = b""
        self._ended: Deferred[None] = Deferred()
        self._change: Callable[[Any], Any] | None = None
        self.faults: list[str] = []

    async def start(self) -> None:
        program = installed()
        assert program is not None, "there is no browser here"
        self._folder.mkdir(parents=True)
        arguments = [
            program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
            "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking", "--disable-sync",
            "--no-first-run", "--no-default-browser-check", "--mute-audio", "--hide-scrollbars",
            f"--user-data-dir={self._folder}", "about:blank",
        ]  # fmt: skip
        environment = {**os.environ, "HOME": str(self._folder)}
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r", _TO: "w", _FROM: "r"}
        self._reactor.spawnProcess(self, program, arguments, env=environment, childFDs=descriptors)
        made = await self._ask("Target.createTarget", {"url": "about:blank"}, None, STARTING)
        attached = await self._ask(
            "Target.attachToTarget", {"targetId": made["targetId"], "flatten": True}, None, ANSWERING
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.ask(f"{domain}.enable")

    async def stop(self) -> None:
        """Ends the process: with a word, and if that does not help without."""
        if self.transport is None or self._ended.called:
            return
        killer = self._reactor.callLater(CLOSING, self._kill)
        self._ask("Browser.close", {}, None, CLOSING).addErrback(lambda _: None)
        await self._ended
        if killer.active():
            killer.cancel()

    def _kill(self) -> None:
        assert self.transport is not None
        self.transport.signalProcess("KILL")

    # -- words ---------------------------------------------------------------------------------------

    def ask(self, method: str, **parameters: Any) -> Deferred[Any]:
        """One command to the tab; fails with what the browser says against it."""
        return self._ask(method, parameters, self._session, ANSWERING)

    def _ask(self, method: str, parameters: Any, session: str | None, patience: float) -> Deferred[Any]:
        self._number += 1
        words = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            words["sessionId"] = session
        answer: Deferred[Any] = Deferred()
        self._asked[self._number] = answer
        assert self.transport is not None
        self.transport.writeToChild(_TO, json.dumps(words).encode("utf-8") + b"\0")
        return answer.addTimeout(patience, self._reactor)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != _FROM:
            self._words = (self._words + data)[-4_000:]
            return
        *whole, self._buffer = (self._buffer + data).split(b"\0")
        for each in whole:
            self._hear(json.loads(each))

    def _hear(self, message: Any) -> None:
        answer = self._asked.pop(message.get("id"), None)
        if answer is not None and not answer.called:
            if "error" in message:
                answer.errback(RuntimeError(str(message["error"])))
            else:
                answer.callback(message["result"])
        match message.get("method"), message.get("params"):
            case "Runtime.exceptionThrown", told:
                self.faults.append(json.dumps(told["exceptionDetails"])[:500])
            case "Runtime.consoleAPICalled", {"type": "error"} as told:
                self.faults.append(json.dumps(told["args"])[:500])
            case "Log.entryAdded", {"entry": {"level": "error", "source": source} as entry} if source != "network":
                self.faults.append(f"{source}: {entry['text']}")
            case "Fetch.requestPaused", told:
                Deferred.fromCoroutine(self._forge(told)).addErrback(lambda why: self.faults.append(str(why.value)))

    def processEnded(self, reason: Any) -> None:
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            if not answer.called:
                answer.errback(RuntimeError(f"the browser ended: {self._words.decode('utf-8', 'replace')}"))
        self._ended.callback(None)

    # -- what tests do -------------------------------------------------------------------------------

    async def open(self, url: str) -> None:
        await self.ask("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """What an expression in the page comes to; promises are waited for."""
        told = await self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise RuntimeError(f"{script}: {told['exceptionDetails']}")
        return told["result"].get("value")

    async def until(self, script: str, patience: float = 30.0) -> None:
        """Returns when the expression is true in the page; says what the page shows if it does not come to that."""
        deadline = self._reactor.seconds() + patience
        while await self.run(script) is not True:
            if self._reactor.seconds() > deadline:
                shown = await self.run("document.body.innerText")
                raise AssertionError(f"{script} did not become true; the page shows:\n{shown}\n{self.faults}")
            await deferLater(self._reactor, 0.05)

    async def look(self, width: int, height: int, theme: str) -> None:
        """The size of the window, and the colours that the system prefers."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    async def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        told = await self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(b64decode(told["data"]))

    async def focus(self, selector: str) -> None:
        """Where text goes from now on, emptied."""
        await self.run(f"document.querySelector('{selector}').value = ''")
        await self.run(f"document.querySelector('{selector}').focus()")

    async def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            await self.ask("Input.dispatchKeyEvent", type=kind, key=key, **text)

    async def type(self, text: str) -> None:
        await self.ask("Input.insertText", text=text)

    async def forge(self, pattern: str, change: Callable[[Any], Any]) -> None:
        """From now on the JSON that comes from URLs of ``pattern`` is what ``change`` makes of it: a node that lies."""
        self._change = change
        await self.ask("Fetch.enable", patterns=[{"urlPattern": pattern, "requestStage": "Response"}])

    async def _forge(self, told: Any) -> None:
        number, change = told["requestId"], self._change
        if told.get("responseStatusCode") != 200 or change is None:
            await self.ask("Fetch.continueRequest", requestId=number)
            return
        body = await self.ask("Fetch.getResponseBody", requestId=number)
        raw = b64decode(body["body"]) if body["base64Encoded"] else body["body"].encode("utf-8")
        forged = json.dumps(change(json.loads(raw))).encode("utf-8")
        headers = [each for each in told["responseHeaders"] if each["name"].lower() != "content-length"]
        await self.ask(
            "Fetch.fulfillRequest",
            requestId=number,
            responseCode=200,
            responseHeaders=headers,
            body=b64encode(forged).decode("ascii"),
        )
