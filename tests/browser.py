"""A Chromium that tests drive: its DevTools protocol spoken over two pipes, so that no other package is needed."""

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--hide-scrollbars"),
    *("--mute-audio", "--enable-unsafe-swiftshader"),
)
LONGEST = 300  # seconds that a browser may take over one answer


class Browser:
    """One tab. `problems` are script errors and loads that failed, `requests` the addresses that were asked for."""

    def __init__(self, profile):
        ours, theirs = os.pipe(), os.pipe()  # to the browser, which reads 3, and from it, which writes 4

        def hand_over():
            os.dup2(ours[0], 3)
            os.dup2(theirs[1], 4)

        command = [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, pass_fds=(3, 4), preexec_fn=hand_over, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for end in (ours[0], theirs[1]):
            os.close(end)
        self.to, self.source = ours[1], theirs[0]
        os.set_blocking(self.source, False)
        self.buffer, self.number = b"", 0
        self.problems, self.requests, self.loaded = [], [], False
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """The answer to one command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data) :]
        deadline = time.monotonic() + LONGEST
        while time.monotonic() < deadline:
            for found in self._messages():
                if found.get("id") == self.number:
                    if "error" in found:
                        raise RuntimeError(f"{method}: {found['error']['message']}")
                    return found["result"]
        raise TimeoutError(f"{method}: no answer of the browser in {LONGEST} s")

    def _messages(self):
        """What the browser has said since; events are kept, and answers returned."""
        try:
            self.buffer += os.read(self.source, 1 << 20)
        except BlockingIOError:
            time.sleep(0.01)
        *whole, self.buffer = self.buffer.split(b"\0")
        found = [json.loads(text) for text in whole]
        for message in found:
            self._keep(message.get("method", ""), message.get("params", {}))
        return found

    def _keep(self, event, facts):
        if event == "Runtime.exceptionThrown":
            details = facts["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.problems.append(facts["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "assert"):
            self.problems.append(str([each.get("value") for each in facts["args"]]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif event == "Page.loadEventFired":
            self.loaded = True

    def open(self, page, width, height, *, dark=False, mobile=False):
        """Load a file into a window of so many pixels."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.problems, self.requests, self.loaded = [], [], False
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + LONGEST
        while not self.loaded and time.monotonic() < deadline:
            self._messages()
        self.evaluate("new Promise((done) => setTimeout(done, 300))")

    def evaluate(self, expression):
        """The value of a JavaScript expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def picture(self, path, *, whole=False):
        """A PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(b64decode(answer["data"]))

    def printed(self):
        """The page as a PDF."""
        return b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])

    def close(self):
        """End the browser."""
        self.process.terminate()
        self.process.wait(LONGEST)
        os.close(self.to)
        os.close(self.source)
