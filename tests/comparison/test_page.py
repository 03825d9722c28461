"""A report is one file with its films, which any browser shows without a network."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.run.pictures import write_episode
from comparison.joining import join
from comparison.report.files import write_files
from tests.comparison.rows import PLAYERS, row, task

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def test_a_film_plays_an_episode_in_few_bytes(tmp_path: Path) -> None:
    pictures = [np.full((64, 64, 3), 37 * index % 256, np.uint8) for index in range(400)]
    write_episode(tmp_path, pictures, 5.0, None)
    film = Image.open(tmp_path / "episode.webp")
    assert film.size == (128, 128)
    assert film.n_frames == 100
    film.seek(50)
    assert np.array(film.convert("RGB")).mean() == pytest.approx(pictures[200].mean(), abs=3)
    assert (tmp_path / "episode.webp").stat().st_size < 500_000


def test_films_above_the_limit_stay_out_of_the_page(tmp_path: Path, monkeypatch, no_figures) -> None:
    write_episode(tmp_path / "pictures", [np.zeros((64, 64, 3), np.uint8)] * 3, 5.0, None)
    ours = row("vae", 5, pictures=str(tmp_path / "pictures"))
    monkeypatch.setattr("comparison.report.page.MOST_FILM_BYTES", (tmp_path / "pictures" / "episode.webp").stat().st_size)
    write_files(tmp_path, [task(ours, replace(ours, key="b", label="b"), *PLAYERS)], "the command")
    assert (tmp_path / "report.html").read_text().count("data:image") == 1


@pytest.mark.parametrize("name", ["episode.webp", "episode.png"])
def test_what_is_no_picture_does_not_get_into_the_page(tmp_path: Path, no_figures, name: str) -> None:
    write_episode(tmp_path / "mine", [np.zeros((64, 64, 3), np.uint8)] * 3, 5.0, None)
    (tmp_path / "secret").write_text("a key")
    for number, target in enumerate(("secret", f"mine/{name}")):
        pictures = tmp_path / f"theirs{number}"
        pictures.mkdir()
        (pictures / name).symlink_to(tmp_path / target)
        write_files(tmp_path, [task(row("vae", 5, pictures=str(pictures)), *PLAYERS)], "the command")
        assert "data:image" not in (tmp_path / "report.html").read_text()
    (tmp_path / "theirs0" / name).unlink()
    (tmp_path / "secret").rename(tmp_path / "theirs0" / name)
    write_files(tmp_path, [task(row("vae", 5, pictures=str(tmp_path / "theirs0")), *PLAYERS)], "the command")
    assert "data:image" not in (tmp_path / "report.html").read_text()


def test_the_film_of_an_encoder_without_pictures_promises_no_reconstructions(tmp_path: Path, no_figures) -> None:
    write_episode(tmp_path / "pictures", [np.zeros((64, 64, 3), np.uint8)] * 3, 5.0, None)
    ours = row("points", 5, pictures=str(tmp_path / "pictures"))
    assert ours.encoder
    told = row("oracle", 5, "control", pictures=str(tmp_path / "pictures"))
    write_files(tmp_path, [task(replace(ours, encoder=replace(ours.encoder, generates=False)), told, *PLAYERS)], "the command")
    page = (tmp_path / "report.html").read_text()
    assert "<b>points</b>: what it saw; return" in page
    assert "<b>oracle</b>: what stood before it, which it was told of in numbers; return" in page


_PROBE = """<script>
const problems = [];
window.addEventListener("error", event => problems.push(String(event.message || event.target.src)), true);
window.addEventListener("load", async () => {
  for (const image of document.images) {
    try { await image.decode(); if (!image.naturalWidth) problems.push(image.alt); } catch { problems.push(image.alt); }
  }
  const first = cell => [...cell.childNodes].filter(part => part.nodeType == 3).map(part => part.textContent).join("");
  const cells = [...document.querySelectorAll("table.results tbody tr")].map(line => [...line.children].map(first));
  const found = {problems, cells, images: document.images.length, width: document.documentElement.scrollWidth,
    window: innerWidth, requests: performance.getEntriesByType("resource").map(entry => entry.name),
    drawings: [...document.querySelectorAll(".figure svg")].map(one => one.getBoundingClientRect().height)};
  const place = document.createElement("template");
  place.id = "found";
  place.setAttribute("data-found", JSON.stringify(found));
  document.body.append(place);
});
</script>"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> tuple[dict, str, dict]:
    """Show a joined report in a browser of a phone's width; return what its scripts found, its console, and its JSON."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium here: install Debian's package chromium to test the report in a browser")
    folder = tmp_path_factory.mktemp("shown")
    write_episode(folder / "pictures", [np.full((64, 64, 3), level, np.uint8) for level in range(0, 250, 10)], 5.0, None)
    treechop = task(row("vae", 6, pictures=str(folder / "pictures")), row("pca", 2, "control"), *PLAYERS)
    write_files(folder, join([treechop, task(row("vae", 60), *PLAYERS, name="VoxelNavigate-v0", source="two")]), "the command")
    assert (folder / "profiles_all_tasks.svg").is_file()
    page = folder / "probed.html"
    page.write_text((folder / "report.html").read_text().replace("<head>", f"<head>{_PROBE}", 1))
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    options = ["--headless", "--no-sandbox", *quiet, "--disable-sync", "--enable-logging=stderr", "--window-size=500,800"]
    budget = ["--virtual-time-budget=5000", f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    ended = subprocess.run([browser, *options, *budget], capture_output=True, text=True, timeout=240)
    found = re.search(r'data-found="([^"]*)"', ended.stdout)
    assert found, ended.stderr[-2000:]
    console = "\n".join(line for line in ended.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&")), console, json.loads((folder / "comparison.json").read_text())


def test_a_browser_shows_the_report_without_errors_or_requests(shown) -> None:
    found, console, _ = shown
    assert console == ""
    assert found["problems"] == []
    assert [name for name in found["requests"] if not name.startswith("data:")] == []
    assert found["images"] == 1
    assert len(found["drawings"]) == 4 + 4 + 2
    assert min(found["drawings"]) > 100


def test_a_phone_does_not_have_to_scroll_the_page_sideways(shown) -> None:
    assert shown[0]["width"] <= shown[0]["window"]


def test_the_tables_in_the_browser_have_the_numbers_of_the_json(shown) -> None:
    found, _, content = shown
    assert [line[:3] for line in found["cells"]] == [[one["row"], str(one["seeds"]), f"{one['iqm']:.2f}"] for one in content["rows"]]
