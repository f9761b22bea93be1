"""A real browser for tests: Chromium without a window, told what to do over a pipe (the DevTools protocol)."""

import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "headless_shell")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--mute-audio"),
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """The browser's program; None where none is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of one browser; `events` is all that it has reported so far."""

    def __init__(self, program: str, profile: Path) -> None:
        self._program, self._profile = program, profile
        self._id, self._session, self._rest = 0, "", b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        # the browser reads commands on 3 and writes answers on 4
        shell = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null'
        args = [*_FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["sh", "-c", shell, self._program, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def _start(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, keep what is reported meanwhile, and return its result."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._id:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert self._process.stdout is not None
            part = self._process.stdout.read(1 << 16)
            if not part:
                raise RuntimeError("the browser has ended")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def open(self, url: str) -> None:
        """Go to a page and wait until it has loaded."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def evaluate(self, expression: str) -> Any:
        """The value of a piece of JavaScript in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Wait until a piece of JavaScript is truthy, at most 30 s; return its value."""
        look = f"""new Promise((resolve, reject) => {{
          const end = Date.now() + 30000;
          const look = () => {{
            const value = {expression};
            if (value) resolve(value);
            else if (Date.now() > end) reject(new Error('it stays ' + value));
            else setTimeout(look, 10);
          }};
          look();
        }})"""
        answer = self.call("Runtime.evaluate", expression=look, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_event(self, method: str) -> dict[str, Any]:
        """Wait for the next event of that name; return its parameters, and forget it."""
        while not (found := self.seen(method)):
            self.events.append(self._next())
        self.events.remove(found[0])
        return dict(found[0]["params"])

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, ctrl: bool = False, shift: bool = False) -> None:
        """Press and release a key, such as Tab, Enter or ArrowDown."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        names = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": code.get(key, ord(key[0])),
        }
        texts = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        self.call("Input.dispatchKeyEvent", type="keyDown", modifiers=2 * ctrl + 8 * shift, **names, **texts)
        self.call("Input.dispatchKeyEvent", type="keyUp", modifiers=2 * ctrl + 8 * shift, **names)

    def drop(self, path: Path) -> None:
        """Drop a file on the page."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)

    def show(self, width: int, scheme: str, media: str = "screen") -> None:
        """Be a screen (or paper) of that width, in the scheme `light` or `dark`."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def seen(self, *methods: str) -> list[dict[str, Any]]:
        """What has been reported under those names."""
        return [event for event in self.events if event.get("method") in methods]
