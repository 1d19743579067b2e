#!/usr/bin/env python3
"""The page of `lathe plot --html` in a real browser: what it draws, and what its controls do to that.

Runs where there is a Chromium: LATHE_BROWSER names it, or chromium, chromium-browser or google-chrome is
on PATH (Debian: apt-get install chromium). Where there is none, says so and exits with 77. By hand:
  LATHE_BROWSER=/usr/bin/chromium LATHE_BINARY=build/lathe python3 tests/plot_html_test.py
With LATHE_SCREENSHOTS=FOLDER it leaves pictures of the page there, for people to look at.
"""
import base64
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

SKIPPED = 77
LATHE = os.environ["LATHE_BINARY"]
BROWSER = os.environ.get("LATHE_BROWSER") or next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
FLOOR = 0.5
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&<!--"


class Browser:
    """Chromium without a window, driven over its DevTools pipe: JSON texts, each closed by a zero."""

    def __init__(self, folder):
        to_browser, self.write_end = (self.out_of_the_way(end) for end in os.pipe())
        self.read_end, from_browser = (self.out_of_the_way(end) for end in os.pipe())
        command = [BROWSER, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
                   "--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={folder}",
                   "--window-size=1000,640", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "browser", *command],
            pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, HOME=folder))
        os.close(to_browser)
        os.close(from_browser)
        self.bytes, self.number, self.session, self.problems = b"", 0, None, []
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"],
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @staticmethod
    def out_of_the_way(end):  # the browser's ends become its descriptors 3 and 4
        moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20)
        os.close(end)
        return moved

    def receive(self, seconds=30):
        end = time.monotonic() + seconds
        while b"\0" not in self.bytes:
            if not select.select([self.read_end], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"no word from {BROWSER} for {seconds} s")
            piece = os.read(self.read_end, 1 << 20)
            if not piece:
                raise EOFError(f"{BROWSER} has ended")
            self.bytes += piece
        text, self.bytes = self.bytes.split(b"\0", 1)
        message = json.loads(text)
        self.note(message.get("method"), message.get("params"))
        return message

    # What no page should cause: exceptions, messages on the console, requests beyond its own file.
    def note(self, method, params):
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded",
                      "Page.javascriptDialogOpening"):
            self.problems.append(json.dumps(params))
        if method == "Network.requestWillBeSent" and params["type"] != "Document":
            self.problems.append("request of " + params["request"]["url"])

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, path):
        self.call("Page.navigate", url=path.as_uri())
        while self.receive().get("method") != "Page.loadEventFired":
            pass
        self.settle()

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def settle(self):  # until the page has drawn
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
                      ".then(() => 1)")

    def mouse(self, kind, x, y, clicks=0):
        button = "none" if kind == "mouseMoved" and not clicks else "left"
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=clicks,
                  buttons=int(button == "left" and kind != "mouseReleased"))

    def click(self, x, y, clicks=1):
        self.mouse("mouseMoved", x, y)
        for click in range(1, clicks + 1):
            self.mouse("mousePressed", x, y, click)
            self.mouse("mouseReleased", x, y, click)
        self.settle()

    def drag(self, begin, end):
        self.mouse("mouseMoved", *begin)
        self.mouse("mousePressed", *begin, 1)
        self.mouse("mouseMoved", *end, 1)
        self.mouse("mouseReleased", *end, 1)
        self.settle()

    def close(self):
        os.close(self.write_end)
        os.close(self.read_end)
        self.process.terminate()
        self.process.wait()


def loss(run, step):
    return 1 + run + 4 / step + (0.2 if step % 2 else -0.2)


def metrics(run, steps):
    for step in range(1, steps + 1):
        yield {"step": step, "train/loss": loss(run, step)}
        if step % 50 == 0:
            yield {"step": step, "val/loss": 1.125 + run}
        if run == 0 and step == 120:
            yield {"step": step, "event": "resume"}


class PlotPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="lathe-plot-html-", ignore_cleanup_errors=True)
        cls.folder = pathlib.Path(cls.temporary.name)
        for run, name in enumerate(["first", "second"]):
            cls.write(name, metrics(run, 200))
        (cls.folder / "first/result.json").write_text(json.dumps({"val_floor": FLOOR}))
        cls.browser = Browser(str(cls.folder / "browser"))

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.temporary.cleanup()

    @classmethod
    def write(cls, name, lines):
        (cls.folder / name).mkdir(parents=True, exist_ok=True)
        (cls.folder / name / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))

    def setUp(self):
        self.show("first", "second")

    def tearDown(self):
        self.assertEqual(self.browser.problems, [])

    def show(self, *runs):
        page = self.folder / "loss.html"
        subprocess.run([LATHE, "plot", *runs, "--html", page], cwd=self.folder, check=True,
                       stdout=subprocess.DEVNULL)
        self.browser.problems.clear()
        self.browser.open(page)
        box = self.browser.evaluate(
            "(({left, top, width, height}) => [left, top, width, height])"
            "(document.querySelector('canvas').getBoundingClientRect())")
        self.left, self.top, self.width, self.height = box

    # A place on the screen: fractions of the canvas.
    def at(self, x, y):
        return self.left + x * self.width, self.top + y * self.height

    # What the canvas says of itself: the first and last step and loss that it shows.
    def shown(self):
        label = self.browser.evaluate("document.querySelector('canvas').ariaLabel")
        steps, losses = label.split(": step ")[1].split(", nats per token ")
        return [*map(float, steps.split(" to ")), *map(float, losses.split(" to "))]

    # Pixels of the canvas in a colour of the style sheet, as it is drawn.
    def pixels(self, name):
        return self.browser.evaluate("""((name) => {
          const canvas = document.querySelector('canvas');
          const copy = new OffscreenCanvas(canvas.width, canvas.height);
          const paint = copy.getContext('2d', { willReadFrequently: true });
          paint.drawImage(canvas, 0, 0);
          const all = paint.getImageData(0, 0, copy.width, copy.height).data;
          const colour = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
          const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
          let count = 0;
          for (let i = 0; i < all.length; i += 4) {
            count += all[i + 3] === 255 && wanted.every((part, k) => Math.abs(all[i + k] - part) < 3);
          }
          return count;
        })(""" + json.dumps(name) + ")")

    def readout(self):
        return self.browser.evaluate("document.getElementById('readout').hidden ? '' : "
                                     "document.getElementById('readout').innerText")

    def press(self, selector, clicks=1):
        x, y = self.browser.evaluate(
            "(({left, top, width, height}) => [left + width / 2, top + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())")
        self.browser.click(x, y, clicks)

    def picture(self, name):
        folder = os.environ.get("LATHE_SCREENSHOTS")
        if folder:
            data = self.browser.call("Page.captureScreenshot")["data"]
            pathlib.Path(folder, name).write_bytes(base64.b64decode(data))

    def set_smoothing(self, value):
        self.browser.evaluate("((slider) => { slider.value = %d; slider.dispatchEvent(new Event('input'));"
                              "})(document.getElementById('smoothing'))" % value)
        self.browser.settle()

    def test_shows_all_curves_and_the_floor(self):
        self.assertEqual(self.browser.evaluate("document.title"), "Loss of first, second")
        first, last, low, high = self.shown()
        self.assertEqual((first, last), (1, 200))
        self.assertLess(low, FLOOR)
        self.assertGreater(high, loss(1, 1))
        self.assertLess(high, loss(1, 1) + 1)
        for colour in ("--c0", "--c1"):
            self.assertGreater(self.pixels(colour), 300)
        self.assertIn("▲ resumed", self.browser.evaluate("document.body.innerText"))
        self.picture("light.png")

    def test_reads_out_the_values_under_the_pointer(self):
        self.set_smoothing(0)
        self.browser.mouse("mouseMoved", *self.at(0.5, 0.5))
        self.browser.settle()
        lines = self.readout().split("\n")
        step = int(lines[0].removeprefix("step "))
        inside = (0.5 * self.width - 58) / (self.width - 58 - 18)
        self.assertAlmostEqual(step, 1 + 199 * inside, delta=1)
        rows = dict(line.split("\t", 1) for line in lines[1:])
        self.assertEqual(set(rows), {"first", "first, validation", "second", "second, validation"})
        for run, name in enumerate(["first", "second"]):
            self.assertAlmostEqual(float(rows[name]), loss(run, step), delta=1e-4)
            value, where = rows[f"{name}, validation"].split("\t")
            self.assertEqual(float(value), 1.125 + run)
            self.assertEqual(where, "at 100")
        self.picture("hover.png")
        self.browser.mouse("mouseMoved", *self.at(0.5, -0.05))
        self.browser.settle()
        self.assertEqual(self.readout(), "")

    def test_says_where_a_run_has_resumed(self):
        resumed = (58 + (120 - 1) / 199 * (self.width - 58 - 18)) / self.width
        self.browser.mouse("mouseMoved", *self.at(resumed, 0.9))
        self.browser.settle()
        self.assertIn("first resumed at 120", self.readout())

    def test_the_legend_hides_and_shows_a_run(self):
        before = self.pixels("--c1")
        self.press("#legend button:nth-child(2)")
        self.assertEqual(self.pixels("--c1"), 0)
        self.assertGreater(self.pixels("--c0"), 300)
        self.assertLess(self.shown()[3], loss(1, 1))
        self.browser.mouse("mouseMoved", *self.at(0.5, 0.5))
        self.browser.settle()
        self.assertNotIn("second", self.readout())
        self.press("#legend button:nth-child(2)")
        self.assertEqual(self.pixels("--c1"), before)
        for button in (1, 2):  # nothing at all is left
            self.press(f"#legend button:nth-child({button})")
        self.assertEqual(self.pixels("--c0"), 0)

    def test_a_drag_zooms_and_a_double_click_shows_all(self):
        everything = self.shown()
        scale = lambda x: 1 + 199 * (x * self.width - 58) / (self.width - 58 - 18)
        self.browser.drag(self.at(0.7, 0.5), self.at(0.4, 0.5))  # flat: the losses fit themselves
        first, last, low, high = self.shown()
        self.assertAlmostEqual(first, scale(0.4), delta=0.5)
        self.assertAlmostEqual(last, scale(0.7), delta=0.5)
        self.assertGreater(low, 0.7)
        self.assertLess(high, 2.5)
        self.picture("zoom.png")
        self.browser.drag(self.at(0.3, 0.3), self.at(0.6, 0.6))  # a box
        box = self.shown()
        self.assertGreater(box[0], first)
        self.assertLess(box[1], last)
        for dragged, found in ((0.6, box[2]), (0.3, box[3])):
            inside = (dragged * self.height - 26) / (self.height - 26 - 44)
            self.assertAlmostEqual(found, high - inside * (high - low), delta=0.02 * (high - low))
        self.browser.click(*self.at(0.5, 0.5), clicks=2)
        self.assertEqual(self.shown(), everything)
        self.browser.drag(self.at(0.4, 0.5), self.at(0.7, 0.5))
        self.press("#whole")
        self.assertEqual(self.shown(), everything)
        self.browser.drag(self.at(0.4, 0.5), self.at(0.402, 0.5))  # a click is no drag
        self.assertEqual(self.shown(), everything)

    def test_smoothing_takes_the_noise(self):
        def value():
            self.browser.mouse("mouseMoved", *self.at(0.8, 0.5))
            self.browser.settle()
            row = next(line for line in self.readout().split("\n") if line.startswith("first\t"))
            return float(row.split("\t")[1])

        self.set_smoothing(0)
        self.assertGreater(abs(value() - 1.025), 0.15)
        self.assertEqual(self.browser.evaluate("document.getElementById('smoothed').value"), "off")
        self.set_smoothing(100)
        self.assertLess(abs(value() - 1.025), 0.03)
        self.assertEqual(self.browser.evaluate("document.getElementById('smoothed').value"), "± 20 steps")

    def test_losses_on_a_logarithmic_axis(self):
        low, high = self.shown()[2:]
        self.press("#log")
        self.assertGreater(self.shown()[2], 0.4)
        self.assertGreater(self.pixels("--c0"), 300)
        self.picture("log.png")
        self.press("#log")
        self.assertEqual(self.shown()[2:], [low, high])

    def test_follows_the_readers_dark_mode(self):
        light = self.browser.evaluate("getComputedStyle(document.body).backgroundColor")
        self.browser.call("Emulation.setEmulatedMedia",
                          features=[{"name": "prefers-color-scheme", "value": "dark"}])
        self.browser.settle()
        dark = self.browser.evaluate("getComputedStyle(document.body).backgroundColor")
        self.assertEqual((light, dark), ("rgb(255, 255, 255)", "rgb(13, 17, 23)"))
        self.assertGreater(self.pixels("--c0"), 300)
        self.picture("dark.png")
        self.browser.call("Emulation.setEmulatedMedia", features=[])

    def test_names_are_text(self):
        name = HOSTILE.replace("/", "∕")  # what a folder's name can hold
        self.write(name, metrics(0, 60))
        self.write("x" + HOSTILE, metrics(1, 60))
        for run in (name, "x" + HOSTILE):
            self.show(run, "first")
            title = pathlib.PurePath(run).name
            self.assertEqual(self.browser.evaluate("document.title"), f"Loss of {title}, first")
            self.assertEqual(self.browser.evaluate("document.querySelector('h1').textContent"),
                             f"Loss of {title}, first")
            self.browser.mouse("mouseMoved", *self.at(0.2, 0.5))
            self.browser.settle()
            self.assertIn(title, self.readout())
            self.assertEqual(self.browser.evaluate("document.images.length"), 0)

    def test_one_run_without_a_floor_or_with_a_single_point(self):
        self.write("single", [{"step": 1, "train/loss": 2.5}, {"step": 1, "val/loss": None}])
        for run in ("second", "single"):
            self.show(run)
            self.assertGreater(self.pixels("--c0"), 10)
            self.press("#log")


if __name__ == "__main__":
    if BROWSER is None:
        print("plot_html_test.py did not run: no Chromium on PATH; LATHE_BROWSER names one")
        sys.exit(SKIPPED)
    unittest.main()
