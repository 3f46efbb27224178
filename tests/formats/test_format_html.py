"""The web page: what it holds, and what a real browser shows of it, against our own renderer."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dreamsplat.errors import FileProblem
from dreamsplat.formats import html
from dreamsplat.method.cameras import make_views
from dreamsplat.render import reference, render
from dreamsplat.types import Gaussians

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH")

FLAGS = (
    "--headless --no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --remote-debugging-pipe"
).split()
WIDTH, HEIGHT, FOOTER = 420, 360, 80
"""Of the window, px; the lowest rows hold the caption and are not compared."""
PATIENCE_S = 60
"""How long the browser may be silent before it is taken for dead."""
COUNT_FRAMES = """(() => {
  const real = window.requestAnimationFrame.bind(window);
  let asked = 0;
  window.requestAnimationFrame = (draw) => { asked++; return real(draw); };
  window.framesAskedFor = (frames) => new Promise((done) => {
    const before = asked, next = () => (frames-- ? real(next) : done(asked - before));
    next();
  });
})()"""
"""Run in a page: `framesAskedFor(n)` waits for n frames, and gives how many the page itself asked for meanwhile."""


def written(gaussians: Gaussians, path: Path, title: str | None = None) -> str:
    html.write(gaussians, path, title)
    return path.read_text(encoding="utf-8")


def embedded(page: str) -> tuple[dict[str, Any], bytes]:
    about, data = (re.search(rf'id="{name}">(.*?)</script>', page, re.DOTALL) for name in ("about", "data"))
    assert about and data
    return json.loads(about[1]), base64.b64decode(data[1])


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_the_page_holds_every_gaussian_to_half_a_step(tmp_path, random_gaussians, sh_degree):
    gaussians = random_gaussians(300, sh_degree)
    about, data = embedded(written(gaussians, tmp_path / "a.html"))
    narrow = len(about["narrow"])
    assert about["count"] == 300 and len(about["wide"]) == 11 and narrow == 3 * ((sh_degree + 1) ** 2 - 1)
    assert len(data) == 300 * (12 + 22 + narrow)
    np.testing.assert_array_equal(np.frombuffer(data, "<f4", 900).reshape(300, 3), gaussians.means)
    quats = torch.nn.functional.normalize(gaussians.quats, dim=1)
    quats = torch.where(quats[:, :1] < 0, -quats, quats)
    wide = torch.cat([gaussians.scales.log(), quats, gaussians.opacities[:, None], gaussians.sh[:, 0]], dim=1)
    tables = (
        (np.frombuffer(data, "<u2", 3300, 3600).reshape(300, 11), about["wide"], wide, 65535),
        (np.frombuffer(data, "u1", offset=10200).reshape(300, narrow), about["narrow"], gaussians.sh[:, 1:], 255),
    )
    for codes, steps, values, most in tables:
        low, step = np.array(steps).reshape(-1, 2).T
        values = values.double().reshape(300, len(low)).numpy()
        np.testing.assert_allclose(step, (values.max(axis=0) - values.min(axis=0)) / most, rtol=1e-5)
        # Half a step, and the rounding of float32 logarithms and norms in this test.
        assert (np.abs(low + step * codes - values) <= 0.5001 * step + 1e-6).all()


def test_the_page_is_small(tmp_path, random_gaussians):
    for count, most in ((6000, 300_000), (100_000, 4_700_000)):
        assert len(written(random_gaussians(count), tmp_path / "a.html")) < most


def test_the_same_gaussians_give_the_same_bytes_and_a_missing_folder_is_told(tmp_path, random_gaussians):
    gaussians = random_gaussians(50, 1)
    assert written(gaussians, tmp_path / "a.html", "x") == written(
        gaussians.to(torch.float64), tmp_path / "b.html", "x"
    )
    with pytest.raises(FileProblem, match="cannot be written"):
        html.write(gaussians, tmp_path / "none" / "a.html")


def test_the_page_names_nothing_outside_itself(tmp_path, random_gaussians):
    page = written(random_gaussians(5), tmp_path / "a.html")
    assert "default-src 'none'" in page and "data:," in page
    assert re.findall(r"https?:|//[a-z]+\.|\bimport\b|\bfetch\b|XMLHttp|src=|@[a-z]+@", page) == []


def test_a_title_is_text_whatever_it_says(tmp_path, random_gaussians):
    title = '</title><script>alert("@data@")</script> & more'
    page = written(random_gaussians(2), tmp_path / "a.html", title)
    assert "<script>alert" not in page and page.count("@data@") == 3
    assert "&lt;/title&gt;&lt;script&gt;alert(&quot;@data@&quot;)&lt;/script&gt; &amp; more" in page
    assert "<title>red mug</title>" in written(random_gaussians(2), tmp_path / "red mug.html")


def test_the_viewer_has_the_constants_of_the_renderer(tmp_path, random_gaussians):
    page = written(random_gaussians(2), tmp_path / "a.html")
    found = re.search(r"const float (NEAR .*?);", page)
    assert found
    names = ("NEAR", "WIDENING", "BLUR_PX2", "MAX_ALPHA", "MIN_ALPHA")
    values = dict(part.split(" = ") for part in found[1].split(", "))
    assert tuple(values) == names
    assert [eval(values[name]) for name in names] == [getattr(reference, name) for name in names]


def test_strays_do_not_decide_where_the_page_looks():
    generator = torch.Generator().manual_seed(0)
    ball = torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator), dim=1).double().numpy()
    centre, radius = html.framing(np.concatenate([ball + [3, 0, 1], [[1e4, 0, 0]]]))
    np.testing.assert_allclose(centre, [3, 0, 1], atol=0.02)
    assert radius == pytest.approx(1, abs=0.02)
    assert html.framing(np.zeros((0, 3)))[1] > 0 and html.framing(np.zeros((1, 3)))[1] > 0


# --- the picture, in a real browser -----------------------------------------------------------------------------------


class Browser:
    """A headless Chromium, told what to do through the pipes of the DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # The browser reads commands from descriptor 3 and writes answers to 4.
        place = "import os, sys; from fcntl import fcntl, F_DUPFD; c, a, *run = sys.argv[1:]; "
        place += "c, a = (fcntl(int(end), F_DUPFD, 10) for end in (c, a)); "
        place += "os.dup2(c, 3); os.dup2(a, 4); os.execv(run[0], run)"
        run = [sys.executable, "-c", place, str(commands), str(answers), str(CHROMIUM), *FLAGS]
        self._process = subprocess.Popen(
            [*run, f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", "about:blank"],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands), os.close(answers)
        self._buffer, self._count, self._session = b"", 0, None
        self.loads = 0
        self.requests: list[str] = []
        self.problems: list[str] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self(f"{domain}.enable")
        self("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False)

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _note(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])
            case "Runtime.exceptionThrown" | "Log.entryAdded":
                self.problems.append(json.dumps(event["params"]))
            case "Page.loadEventFired":
                self.loads += 1

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], PATIENCE_S)[0], "the browser does not answer"
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def run(self, script: str) -> Any:
        """The value of an expression, waited for if it is a promise."""
        answer = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, path: Path, fragment: str = "") -> None:
        for url in ("about:blank", f"{path.as_uri()}#{fragment}"):  # Otherwise only the fragment might change.
            self.loads = 0
            self("Page.navigate", url=url)
            while not self.loads:
                self._note(self._next())
        self.run(COUNT_FRAMES)
        self.wait()

    def wait(self, frames: int = 2) -> int:
        """Until so many more frames were on screen; two show what was changed. Returns how many the page asked for."""
        return self.run(f"window.framesAskedFor({frames})")

    def picture(self) -> torch.Tensor:
        """What the window shows [H, W, 3], without the rows of the caption."""
        png = base64.b64decode(self("Page.captureScreenshot", format="png")["data"])
        shown = np.array(Image.open(io.BytesIO(png)).convert("RGB"))
        assert shown.shape == (HEIGHT, WIDTH, 3)
        return torch.from_numpy(shown[: HEIGHT - FOOTER]).float() / 255

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=0)
        self.wait()

    def mouse(self, kind: str, x: int, y: int, **more: Any) -> None:
        self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", **more)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._commands), os.close(self._answers)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def expected(gaussians: Gaussians, azimuth: float, elevation: float, distance: float, background: str) -> torch.Tensor:
    """Our own picture of the same view."""
    centre, _ = html.framing(gaussians.means.double().numpy())
    centred = dataclasses.replace(gaussians, means=(gaussians.means - torch.from_numpy(centre)).float())
    angles = (torch.tensor([float(value)]) for value in (azimuth, elevation, distance, 40.0))
    views = make_views(*angles, width=WIDTH, height=HEIGHT)
    behind = [int(background[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    return render(centred, views.cameras, background=behind).rgb[0, : HEIGHT - FOOTER].clamp(0, 1)


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10 * ((one - other) ** 2).mean().log10())


@needs_browser
@pytest.mark.parametrize(
    ("sh_degree", "view"),
    [(0, (30, 15, 3.0, "ffffff")), (1, (-100, -40, 1.5, "000000")), (2, (0, 90, 2.0, "3366cc")),
     (3, (170, -90, 2.0, "ffffff")), (3, (-45, 20, 0.5, "808080"))],
)  # fmt: skip
def test_the_browser_shows_the_picture_of_our_renderer(tmp_path, browser, random_gaussians, sh_degree, view):
    gaussians = random_gaussians(1500, sh_degree)
    thin = torch.tensor([1.0, 0.3, 0.05])
    gaussians = dataclasses.replace(gaussians, scales=0.6 * gaussians.scales * thin, means=gaussians.means + 0.7)
    html.write(gaussians, tmp_path / "a.html")
    browser.requests.clear(), browser.problems.clear()
    browser.open(tmp_path / "a.html", "azimuth={}&elevation={}&distance={}&background={}".format(*view))
    # 8-bit steps alone are 58.9 dB; half floats, quantisation and the order of equals leave some of that.
    assert psnr(browser.picture(), expected(gaussians, *view)) > 45
    assert browser.problems == []
    assert {url.split("#")[0] for url in browser.requests} <= {(tmp_path / "a.html").as_uri(), "about:blank", "data:,"}


@pytest.fixture
def page(tmp_path, random_gaussians) -> Path:
    html.write(random_gaussians(200), tmp_path / "a.html")
    return tmp_path / "a.html"


@needs_browser
def test_the_object_fits_the_window_by_itself_and_turns_until_touched(browser, page):
    browser.open(page)
    before = browser.picture()
    behind = before[0, 0]
    assert (behind - torch.tensor([0xEC, 0xEC, 0xEA]) / 255).abs().max() < 0.01
    drawn = ((before - behind).abs().amax(dim=-1) > 0.1).nonzero()
    assert int(drawn[:, 1].min()) > 10 and int(drawn[:, 1].max()) < WIDTH - 10
    assert int(drawn[:, 0].max() - drawn[:, 0].min()) > 0.5 * HEIGHT
    assert browser.wait(20) >= 20
    assert psnr(before, browser.picture()) < 40  # It turns.
    browser.mouse("mousePressed", 200, 100, clickCount=1)
    browser.mouse("mouseReleased", 200, 100, clickCount=1)
    browser.wait()
    still = browser.picture()
    assert browser.wait(20) == 0  # The page draws nothing more.
    assert torch.equal(still, browser.picture())


@needs_browser
def test_mouse_wheel_and_keys_turn_and_zoom_and_a_double_click_resets(browser, page):
    browser.open(page, "azimuth=10&elevation=15")
    start = browser.picture()
    browser.mouse("mousePressed", 200, 100, clickCount=1)
    browser.mouse("mouseMoved", 250, 80)
    browser.mouse("mouseReleased", 250, 80, clickCount=1)
    browser.wait()
    dragged = browser.picture()
    browser.open(page, f"azimuth={10 + np.rad2deg(0.4):.6f}&elevation={15 - np.rad2deg(0.16):.6f}")
    assert psnr(dragged, browser.picture()) > 45
    browser.open(page, "azimuth=10&elevation=15")
    for key, azimuth, elevation in (("ArrowRight", 17.5, 15), ("ArrowUp", 17.5, 22.5), ("ArrowLeft", 10, 22.5)):
        browser.press(key)
        pressed = browser.picture()
        browser.run(f"history.replaceState(0, '', '#azimuth={azimuth}&elevation={elevation}')")
        browser.press("Home")
        assert psnr(pressed, browser.picture()) > 45
    browser.run("location.hash = 'azimuth=10&elevation=15'")
    browser.wait()
    browser("Input.dispatchMouseEvent", type="mouseWheel", x=200, y=100, deltaX=0, deltaY=300)
    browser.wait()
    ink = [(1 - shown.mean(dim=-1)).sum() for shown in (start, browser.picture())]
    assert ink[1] < 0.8 * ink[0]  # Farther away, so smaller.
    for count in (1, 2):
        browser.mouse("mousePressed", 200, 100, clickCount=count)
        browser.mouse("mouseReleased", 200, 100, clickCount=count)
    browser.wait()
    assert psnr(start, browser.picture()) > 45


@needs_browser
def test_the_background_turns_dark_by_its_button_and_by_the_readers_choice(browser, page):
    browser.open(page, "azimuth=10")
    browser.run("document.querySelector('#theme').click()")
    browser.wait()
    assert float(browser.picture()[0, 0].max()) < 0.2
    features = [
        {"name": "prefers-color-scheme", "value": "dark"},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser("Emulation.setEmulatedMedia", features=features)
    try:
        browser.open(page)
        still = browser.picture()
        assert float(still[0, 0].max()) < 0.2
        assert browser.wait(20) == 0  # Less motion was asked for.
        assert torch.equal(still, browser.picture())
    finally:
        browser("Emulation.setEmulatedMedia", features=[])


@needs_browser
def test_the_page_says_what_it_shows_and_why_it_cannot(tmp_path, browser, random_gaussians, page):
    browser.open(page)
    assert browser.run("document.querySelector('canvas').ariaLabel").startswith("a: a 3D object of 200 Gaussians")
    assert browser.run("document.querySelector('#problem').innerText") == ""
    html.write(random_gaussians(0), tmp_path / "empty.html")
    browser.problems.clear()
    browser.open(tmp_path / "empty.html", "background=102030&azimuth=0")
    assert (browser.picture() - torch.tensor([0x10, 0x20, 0x30]) / 255).abs().max() < 0.01
    assert browser.problems == []
    broken = browser(
        "Page.addScriptToEvaluateOnNewDocument", source="HTMLCanvasElement.prototype.getContext = () => null"
    )
    try:
        browser.open(page)
        assert browser.run("document.querySelector('#problem').innerText") == (
            "This browser cannot show the asset: it needs WebGL2."
        )
    finally:
        browser("Page.removeScriptToEvaluateOnNewDocument", **broken)
