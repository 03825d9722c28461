"""The page for people, in a headless Chromium that is driven through its own pipe."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.videos import write_video
from service.tokens import Tokens
from tests.fixtures.service import Client, save_small

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
TOKEN = "a-token-of-many-characters"


class Browser:
    """A page of Chromium's DevTools protocol: JSON messages over two pipes, each ended by a zero."""

    def __init__(self, profile: Path) -> None:
        # Chromium reads its orders from file 3 and answers in file 4
        (read_orders, self._orders), (self._answers, write_answers) = os.pipe(), os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        words = [str(CHROMIUM), *options, f"--user-data-dir={profile}", "--window-size=1280,1400", "about:blank"]
        shell = ["bash", "-c", f'exec "$@" 3<&{read_orders} 4>&{write_answers}', "bash", *words]
        self.process = subprocess.Popen(shell, pass_fds=(read_orders, write_answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(read_orders)
        os.close(write_answers)
        self._read = os.fdopen(self._answers, "rb", buffering=0)
        self._buffer, self._number = b"", 0
        self.events: list[dict] = []
        targets = self.order("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self.session = self.order("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.order(f"{domain}.enable")

    session: str | None = None

    def order(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **({"sessionId": self.session} if self.session else {})}
        os.write(self._orders, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                more = self._read.read(65536)
                assert more, "Chromium has ended"
                self._buffer += more
            text, _, self._buffer = self._buffer.partition(b"\0")
            found = json.loads(text)
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def evaluate(self, script):
        found = self.order("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script, seconds=60.0):
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, (script, self.evaluate("document.body.innerText"), self.complaints())
            time.sleep(0.1)
        return value

    def choose_file(self, path):
        root = self.order("DOM.getDocument")["root"]["nodeId"]
        node = self.order("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.order("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def complaints(self):
        """Return what the page's console complains of."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [one["params"] for one in self.events if one["method"] in kinds and "favicon" not in str(one)]

    def close(self):
        self.process.kill()
        self.process.wait()
        self._read.close()
        os.close(self._orders)


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("needs Chromium (chromium, chromium-browser or google-chrome)")
    made = Browser(tmp_path / "profile")
    yield made
    made.close()


def film_frames():
    """Return a second of a red square that goes to the right by 3 pixels a frame."""
    frames = np.full((20, 64, 96, 3), (30, 90, 40), np.uint8)
    for step, picture in enumerate(frames):
        picture[20:44, 3 * step : 3 * step + 24] = (220, 60, 30)
    return frames


def film(path, codec):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 20, (96, 64))
    if not writer.isOpened():
        pytest.skip(f"needs an OpenCV that writes {codec}")
    for picture in film_frames():
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    return path


# the column of every frame's leftmost pixel that is more red than green
SQUARES = """[...document.querySelectorAll('#strip figure')].map((one) => {
  const canvas = one.querySelector('canvas'), data = canvas.getContext('2d').getImageData(0, 32, canvas.width, 1).data;
  return Array.from({ length: canvas.width }, (_, x) => data[4 * x] - data[4 * x + 1]).findIndex((red) => red > 50);
})"""


DROP = """(async () => {
  const canvas = new OffscreenCanvas(80, 60), context = canvas.getContext("2d");
  context.fillStyle = "rgb(200, 30, 60)";
  context.fillRect(10, 10, 40, 30);
  const file = new File([await canvas.convertToBlob()], "square.png", { type: "image/png" }), carried = new DataTransfer();
  carried.items.add(file);
  delete document.body.dataset.done;
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
})()"""


@pytest.mark.slow
def test_pictures_and_films_are_seen_through_every_kind_of_encoder(browser, start_service, small_encoders, tmp_path):
    slots = save_small("efficientmorl_debug", tmp_path / "slots")
    running = start_service(*(small_encoders[name] for name in ("plain", "memory", "told", "critic")), slots)
    browser.order("Page.navigate", url=f"http://127.0.0.1:{running.port}/")
    browser.wait_for("document.querySelectorAll('#models tr').length === 5 && document.querySelector('#models td.number').textContent")
    assert "cwvae, 93,691 parameters" in browser.evaluate("document.getElementById('models').innerText")
    browser.evaluate(DROP)
    browser.wait_for("document.body.dataset.done === 'plain'")
    assert browser.evaluate("document.querySelectorAll('#strip figure').length") == 1
    # a frame and its reconstruction; latents are a column of 16
    assert browser.evaluate("document.querySelectorAll('#strip canvas').length") == 2
    assert browser.evaluate("[document.getElementById('latents').width, document.getElementById('latents').height]") == [1, 16]
    browser.choose_file(film(tmp_path / "film.webm", "VP80"))
    browser.wait_for(
        "document.querySelectorAll('#strip figure').length > 8 && document.body.innerText.includes('film.webm, through plain')"
    )
    for name, canvases in (("memory", 2), ("slots", 3), ("critic", 2)):
        browser.evaluate(
            f"delete document.body.dataset.done; const m = document.getElementById('model'); m.value = '{name}'; "
            "m.dispatchEvent(new Event('change'))".replace("const m", "globalThis.m").replace("; m.", "; globalThis.m.")
        )
        browser.wait_for(f"document.body.dataset.done === '{name}'")
        frames = browser.evaluate("document.querySelectorAll('#strip figure').length")
        assert browser.evaluate("document.querySelectorAll('#strip canvas').length") == canvases * frames
        assert browser.evaluate("document.getElementById('latents').width") == frames > 8
        if folder := os.environ.get("PAGE_PICTURES"):
            picture = browser.order("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            Path(folder, f"page_{name}.png").write_bytes(base64.b64decode(picture))
    browser.evaluate("globalThis.m.value = 'told'; globalThis.m.dispatchEvent(new Event('change'))")
    assert "actions" in browser.wait_for("!document.getElementById('trouble').hidden && document.getElementById('trouble').textContent")
    assert browser.complaints() == []


@pytest.mark.slow
def test_an_mp4_is_seen_frame_by_frame(browser, start_service, small_encoders, tmp_path):
    running = start_service(small_encoders["plain"])
    write_video(tmp_path / "ours.mp4", film_frames(), 20)
    films = {"ours.mp4": tmp_path / "ours.mp4", "film.webm": film(tmp_path / "film.webm", "VP80")}
    browser.order("Page.navigate", url=f"http://127.0.0.1:{running.port}/")
    browser.wait_for("document.querySelector('#models td.number')?.textContent")
    if browser.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.64000A\"')"):
        # as MineRL's recordings are; not every Chromium may read it
        films["h264.mp4"] = Path(__file__).with_name("h264.mp4")
    for name, path in films.items():
        browser.evaluate("delete document.body.dataset.done")
        browser.choose_file(path)
        browser.wait_for(f"document.body.dataset.done && document.body.innerText.includes('{name}, through plain')")
        assert browser.evaluate("document.getElementById('latents').width") == 20
        np.testing.assert_allclose(browser.evaluate(SQUARES), 3 * np.arange(20), atol=1, err_msg=name)
    browser.choose_file(film(tmp_path / "old.mp4", "mp4v"))
    trouble = "!document.getElementById('trouble').hidden && document.getElementById('trouble').textContent"
    assert "H.264 or VP9" in browser.wait_for(trouble)
    # the rates come every two seconds, and leave what was said to the user
    browser.evaluate("document.querySelector('#models td.number').textContent = ''")
    browser.wait_for("document.querySelector('#models td.number').textContent")
    assert "H.264 or VP9" in browser.evaluate(trouble)


@pytest.mark.slow
def test_a_token_opens_the_page_and_a_wrong_one_does_not(browser, start_service, small_encoders):
    running = start_service(small_encoders["plain"], tokens=Tokens([TOKEN]))
    browser.order("Page.navigate", url=f"http://127.0.0.1:{running.port}/")
    browser.wait_for("document.getElementById('access')?.hidden === false")
    for token, shown in (
        ("wrong", "!document.getElementById('trouble').hidden"),
        (TOKEN, "document.querySelector('#models tr')?.innerText"),
    ):
        browser.evaluate(f"document.getElementById('token').value = '{token}'; document.querySelector('#access button').click()")
        browser.wait_for(shown)
    assert browser.evaluate("document.getElementById('access').hidden")


def test_the_page_runs_its_own_script_alone_and_needs_no_token(start_service, small_encoders):
    running = start_service(small_encoders["plain"], tokens=Tokens([TOKEN]))
    status, headers, content = Client(running.port).call("GET", "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("style-src-attr")[0]
    text = content.decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "plain" not in text
