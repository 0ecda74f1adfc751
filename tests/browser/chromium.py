"""A headless Chromium, driven by its own DevTools protocol over a websocket.

Every page has a profile of its own: what one leaves behind, no other sees.
"""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websocket import WebSocket, create_connection

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PATIENCE_S = 120.0
KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Space": (" ", 32, " "),
    "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "Backspace": ("Backspace", 8, ""),
    "a": ("a", 65, "a"),
}
CONTROL, SHIFT = 2, 8


def find() -> Path | None:
    """Return the browser that the variable CHROMIUM names, else one of the PATH, else None."""
    for name in filter(None, (os.environ.get("CHROMIUM"), *NAMES)):
        if found := shutil.which(name):
            return Path(found)
    return None


class Browser:
    """One Chromium, and the connection that all its pages share."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._events: dict[str | None, list[dict[str, Any]]] = {}

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; what is told meanwhile is kept for `events`."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            heard = json.loads(self._socket.recv())
            if heard.get("id") == number:
                if "error" in heard:
                    raise RuntimeError(f"{method}: {heard['error']}")
                return dict(heard["result"])
            if "method" in heard:
                self._events.setdefault(heard.get("sessionId"), []).append(heard)

    def events(self, session: str, method: str) -> list[dict[str, Any]]:
        """Return what was told so far under one name."""
        return [event["params"] for event in self._events.get(session, ()) if event["method"] == method]

    def page(self) -> "Page":
        """Open an empty tab in a profile of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        self.call(
            "Browser.grantPermissions",
            browserContextId=context,
            permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        )
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, context)


class Page:
    """One tab, as a user has it: keys, what is shown, what it asks for."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def open(self, url: str) -> None:
        failed = self.call("Page.navigate", url=url).get("errorText")
        assert not failed, failed
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page; a promise is waited for."""
        told = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if wrong := told.get("exceptionDetails"):
            raise RuntimeError(f"{expression}: {wrong.get('exception', wrong).get('description', wrong)}")
        return told["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Return the first value of the expression that is true of itself."""
        give_up = time.monotonic() + PATIENCE_S
        while not (value := self.run(expression)):
            shown = self.run("document.body?.innerText")
            assert time.monotonic() < give_up, f"never came true: {expression}; the page shows:\n{shown}"
            time.sleep(0.02)
        return value

    def text(self, element: str) -> str:
        """Return the text of the element with this id, as it is in the document."""
        return str(self.run(f"document.getElementById({json.dumps(element)}).textContent"))

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key where the focus is."""
        name, code, text = KEYS[key]
        held = {"key": name, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        written = {} if modifiers & CONTROL else {"text": text}
        commands = ["selectAll"] if (key, modifiers) == ("a", CONTROL) else []
        self.call("Input.dispatchKeyEvent", type="keyDown", commands=commands, **held, **written)
        self.call("Input.dispatchKeyEvent", type="keyUp", **held)

    def write(self, text: str) -> None:
        """Replace the text of the field that has the focus, as by typing."""
        self.press("a", CONTROL)
        self.press("Backspace")
        self.call("Input.insertText", text=text)

    def focused(self) -> str:
        """Return the id of the element with the focus; of one without, its value."""
        return str(self.run("document.activeElement.id || document.activeElement.value || ''"))

    def tab_to(self, element: str) -> None:
        """Press Tab until the element has the focus."""
        for _ in range(30):
            if self.focused() == element:
                return
            self.press("Tab")
        raise AssertionError(f"Tab never reaches {element}")

    def emulate(self, scheme: str) -> None:
        """Prefer `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def requests(self) -> list[dict[str, Any]]:
        """Return every request so far, whatever made it."""
        return [told["request"] for told in self._browser.events(self._session, "Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """Return exceptions of scripts and what the browser refused, but no answers with an error."""
        events, session = self._browser.events, self._session
        entries = [told["entry"] for told in events(session, "Log.entryAdded")]
        return [
            *(str(told["exceptionDetails"]) for told in events(session, "Runtime.exceptionThrown")),
            *(
                entry["text"]
                for entry in entries
                if entry["level"] == "error" and entry["source"] != "network"
            ),
        ]

    def accessible(self) -> list[dict[str, Any]]:
        """Return the accessibility tree, flat and in order: role, name, description and states of a node."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                "description": node.get("description", {}).get("value", ""),
                **{each["name"]: each["value"].get("value") for each in node.get("properties", ())},
            }
            for node in nodes
            if not node["ignored"]
        ]

    def screenshot(self, file: Path) -> None:
        """Write the whole page, as it is now, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def running(program: Path, profile: Path) -> Iterator[Browser]:
    """Run a Chromium whose profile, and whose log, are in a directory."""
    options = [
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # it cannot sandbox itself as root
    ]
    told = profile / "DevToolsActivePort"
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen([program, *options, "about:blank"], stdout=log, stderr=log)
    try:
        give_up = time.monotonic() + PATIENCE_S
        while not told.exists() or told.read_text().count("\n") < 1:
            assert process.poll() is None, (profile / "log").read_text()
            assert time.monotonic() < give_up, (profile / "log").read_text()
            time.sleep(0.05)
        port, path = told.read_text().split()
        address = f"ws://127.0.0.1:{port}{path}"
        socket = create_connection(
            address, timeout=PATIENCE_S, suppress_origin=True, http_no_proxy=["127.0.0.1"]
        )
        try:
            yield Browser(socket)
        finally:
            socket.close()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
