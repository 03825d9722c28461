"""A report says what the runs were, over one task or several, in a file that any browser shows without a network."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from agents.run.pictures import write_episode
from comparison import encoder_facts as facts_module
from comparison.command import compare
from comparison.encoder_facts import EncoderFacts, Speed, SpeedCache, encoder_facts
from comparison.report.conclusions import conclusions
from comparison.report.files import join_reports, write_files
from comparison.report.statistics import area_under_curve, interquartile_mean, paired_difference
from comparison.report.summary import summarise
from comparison.report.tables import print_table
from comparison.results import Point, RowResults, Run, TaskResults, join, read_results
from encoders import StoreReference, make_encoder, prepare
from foundation.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SEEDS = 6


def row(label: str, middle: float, kind: str = "encoder", seeds: int = SEEDS, spread: float = 1.0, **changes) -> RowResults:
    """Return a row whose scores lie evenly around `middle`."""
    scores = middle + spread * np.linspace(-0.5, 0.5, seeds)
    player = {"random": "random", "scripted": "scripted"}.get(label)
    curves = [[] if player else [Point(50, score / 2, 1.5), Point(100, score, 3.0)] for score in scores.tolist()]
    runs = [Run(seed, 100, float(score), [float(score)], curves[seed], 3.0, 1) for seed, score in enumerate(scores)]
    facts = EncoderFacts(label, [8], 1234, speed=Speed(0.5, 8, "cpu", 1, "a machine")) if kind == "encoder" else None
    return RowResults(label, label, kind, runs, player=player, algorithm=None if player else "PPO", encoder=facts, **changes)


def task(*rows: RowResults, name: str = "VoxelTreechop-v0", source: str = "one", **settings) -> TaskResults:
    environment = {"name": name, "frame_skip": 4}
    about = {"environment": environment, "evaluation": {"episodes": 2, "final_episodes": 3}, "steps": 100, "seeds": SEEDS, **settings}
    return TaskResults(name, about, {}, [f"python compare_encoders.py {source}"], {"python": "3"}, list(rows), source)


PLAYERS = (row("random", 1, "player", spread=0), row("scripted", 11, "player", spread=0))


def test_a_step_of_one_tick_is_of_one_tick() -> None:
    lengths = [task(environment={"name": "Any-v0", "frame_skip": skip}).step_length for skip in (1, 4)]
    assert lengths == ["1 game tick", "4 game ticks"]


def test_overlapping_intervals_conclude_nothing() -> None:
    found = summarise([task(row("vae", 5), row("pca", 5.2, "control"), row("pixels", 2, "control"), *PLAYERS)])[0]
    said = conclusions(found)
    assert "scores higher than pixels and random;" in said[0]
    assert "scores lower than scripted;" in said[0]
    assert "overlaps with pca, against which nothing can be concluded" in said[0]
    assert not any("Warning" in sentence for sentence in said)


def test_few_seeds_conclude_nothing_however_far_apart() -> None:
    found = summarise([task(row("vae", 50, seeds=4), row("pixels", 2, "control"), *PLAYERS)])[0]
    said = conclusions(found)
    assert said[0] == "vae has too few seeds to conclude anything against pixels, random and scripted."
    assert any("Warning: 4 finished seeds in the smallest row" in sentence for sentence in said)


def test_a_collapsed_encoder_is_named() -> None:
    ours = row("vae", 5)
    assert ours.encoder
    found = summarise([task(replace(ours, encoder=replace(ours.encoder, collapsed=True)), *PLAYERS)])[0]
    assert any(sentence.startswith("Warning: vae collapsed") for sentence in conclusions(found))


def test_numbers_of_a_task_are_those_of_its_runs() -> None:
    ours, theirs = row("vae", 5), row("pixels", 3, "control", spread=4)
    found = summarise([task(ours, theirs, *PLAYERS)])[0].rows[0]
    assert found.iqm
    assert found.iqm.value == pytest.approx(interquartile_mean([np.array(ours.scores)]))
    assert found.optimality_gap
    assert found.optimality_gap.value == pytest.approx(1 - (5 - 1) / (11 - 1))
    assert found.area
    assert found.area.value == pytest.approx(area_under_curve([50, 100], [2.5, 5]))
    assert found.row.restarts == SEEDS


def test_paired_differences_take_the_seeds_that_both_rows_have() -> None:
    ours = row("vae", 5, spread=10)
    theirs = replace(row("pca", 3, "control", spread=10), runs=row("pca", 3, "control", spread=10).runs[2:])
    pair = summarise([task(ours, theirs, *PLAYERS)])[0].differences[0]
    assert (pair.row, pair.over, pair.pairs) == ("vae", "pca", SEEDS - 2)
    assert pair.found == paired_difference([np.array(ours.scores[2:])], [np.array(theirs.scores)])
    assert (pair.found.low, pair.found.high) == pytest.approx((2, 2))


def test_the_two_directions_of_an_improvement_add_up() -> None:
    found = summarise([task(row("vae", 5), row("pca", 5.4, "control"), *PLAYERS)])[0]
    chances = {(pair.row, pair.over): pair.found for pair in found.improvements}
    one, other = chances["vae", "pca"], chances["pca", "vae"]
    assert one.value + other.value == pytest.approx(1)
    assert one.low + other.high == pytest.approx(1)


def test_scores_over_tasks_are_normalised_between_random_policy_and_target() -> None:
    navigate = task(row("vae", 60), row("random", 20, "player", spread=0), name="VoxelNavigate-v0", source="two")
    summaries = summarise([task(row("vae", 6), row("pca", 2, "control"), *PLAYERS), navigate])
    assert [one.name for one in summaries] == ["all tasks", "VoxelTreechop-v0", "VoxelNavigate-v0"]
    together = {one.label: one for one in summaries[0].rows}
    # 6 of 1 to 11 is 0.5; 60 of 20 to the documented 100 is 0.5
    assert together["vae"].mean
    assert together["vae"].mean.value == pytest.approx(0.5)
    assert together["random"].mean
    assert together["random"].mean.value == pytest.approx(0)
    assert any("pca (no finished run on every task)" in sentence for sentence in conclusions(summaries[0]))
    assert any("100.00 (the reward of the goal)" in sentence for sentence in conclusions(summaries[0]))


def test_tasks_on_which_no_row_learned_alike_are_not_put_together() -> None:
    continuous = task(replace(row("vae with SAC", 60), algorithm="SAC"), *PLAYERS, name="VoxelNavigate-v0", source="two")
    summaries = summarise([task(row("vae with PPO", 6), *PLAYERS), continuous])
    assert [one.name for one in summaries] == ["VoxelTreechop-v0", "VoxelNavigate-v0"]


def without(one: RowResults, *seeds: int) -> RowResults:
    """Return the row as it is where these seeds failed."""
    lost = [f"{one.key}/seed{seed}: no memory" for seed in seeds]
    return replace(one, runs=[run for run in one.runs if run.seed not in seeds], failures=lost)


def two_tasks(*navigate: RowResults, treechop: int = 15, **settings) -> list[TaskResults]:
    """Return Treechop, where `full` and `fewer` have the normalised score 0.9, and Navigate with these rows (0.1 is a return of 28)."""
    rows = [row(label, 10, spread=0, seeds=treechop) for label in ("full", "fewer")]
    random = row("random", 20, "player", spread=0)
    return [
        task(*rows, *PLAYERS, seeds=treechop),
        task(*navigate, random, name="VoxelNavigate-v0", source="two", **{"seeds": 15, **settings}),
    ]


def aggregates(folder: Path) -> tuple[dict[str, dict], list[str]]:
    """Return the lines of the rows over all tasks by label, and the sentences, as the report in the folder has them."""
    content = json.loads((folder / "comparison.json").read_text())
    lines = {line["row"]: line for line in content["rows"] if line["task"] == "all tasks"}
    return lines, content["conclusions"][0]["sentences"]


NUMBERS = ("iqm", "median", "mean", "optimality_gap", "normalised_area")


def test_failed_seeds_of_one_task_give_no_row_a_lead(tmp_path: Path, no_figures) -> None:
    full, fewer = (row(label, 28, spread=0, seeds=15) for label in ("full", "fewer"))
    write_files(tmp_path, two_tasks(full, without(fewer, *range(10))), "the command")
    lines, sentences = aggregates(tmp_path)
    assert (lines["fewer"]["seeds"], lines["fewer"]["failed"]) == (5, 10)
    for name in ("iqm", "iqm_low", "iqm_high", "median", "mean", "optimality_gap"):
        assert lines["fewer"][name] == pytest.approx(0.5)
    for name in NUMBERS:
        assert [lines["fewer"][f"{name}{end}"] for end in ("", "_low", "_high")] == pytest.approx([lines["full"][name]] * 3)
    assert sentences[0] == "full scores higher than random; it overlaps with fewer, against which nothing can be concluded."
    assert sentences[1] == "fewer scores higher than random; it overlaps with full, against which nothing can be concluded."
    content = json.loads((tmp_path / "comparison.json").read_text())
    chances = [pair["value"] for pair in content["improvements"] if pair["task"] == "all tasks" and "random" not in pair["over"]]
    assert chances == pytest.approx([0.5, 0.5])
    profiles = {one["row"]: one["share_above"] for one in content["profiles"] if one["task"] == "all tasks"}
    assert profiles["fewer"] == profiles["full"]
    assert set(profiles["full"]) == {0, 0.5, 1}


def test_one_failed_seed_leaves_rows_cut_alike(tmp_path: Path, no_figures) -> None:
    """With five seeds on each of two tasks, 2 of 10 runs would be cut off one row, and a quarter of the weight off the other."""
    spread = [row(label, 60, spread=80, seeds=5) for label in ("full", "fewer")]
    treechop, navigate = two_tasks(*spread, treechop=5, seeds=5)
    # all runs of this row on Treechop have one score
    lost = [without(one, 2) if one.label == "fewer" else one for one in treechop.rows]
    write_files(tmp_path, [replace(treechop, rows=lost), navigate], "the command")
    lines, _ = aggregates(tmp_path)
    assert [lines["fewer"][name] for name in NUMBERS] == pytest.approx([lines["full"][name] for name in NUMBERS])


def test_joined_comparisons_of_other_numbers_of_seeds_weigh_their_tasks_alike(tmp_path: Path, no_figures) -> None:
    """Twenty seeds that say what five say, of the same row: a joined report says the same of it."""
    navigate = row("full", 28, spread=4, seeds=5)
    longer = replace(navigate, runs=[replace(run, seed=5 * turn + run.seed) for turn in range(4) for run in navigate.runs])
    found = {}
    for name, ours, seeds in (("five", navigate, 5), ("twenty", longer, 20)):
        first, second = two_tasks(ours, treechop=6, seeds=seeds)
        write_files(tmp_path / f"{name}-one", [first], "first")
        write_files(tmp_path / f"{name}-two", [second], "second")
        join_reports((tmp_path / f"{name}-one", tmp_path / f"{name}-two"), tmp_path / name, "join")
        found[name] = aggregates(tmp_path / name)[0]["full"]
    assert found["twenty"]["seeds"] == 6
    assert [found["twenty"][name] for name in NUMBERS] == pytest.approx([found["five"][name] for name in NUMBERS])
    # the middle half: of 0.075, 0.0875, 0.1, 0.1125, 0.125 the upper half, and 0.9 with as much weight
    assert found["twenty"]["iqm"] == pytest.approx(((0.1 / 2 + 0.1125 + 0.125) / 2.5 + 0.9) / 2)


def test_the_time_of_a_run_over_tasks_is_the_mean_of_the_tasks_times(tmp_path: Path, no_figures) -> None:
    full = row("full", 28, spread=0, seeds=15)
    slow = replace(full, runs=[replace(run, seconds=9.0) for run in full.runs])
    write_files(tmp_path, two_tasks(without(slow, *range(10))), "the command")
    assert aggregates(tmp_path)[0]["full"]["seconds"] == pytest.approx((3 + 9) / 2)


def test_a_task_without_a_target_has_no_normalised_score() -> None:
    summaries = summarise([task(row("vae", 6), PLAYERS[0], name="CarRacing-v3")])
    assert summaries[0].rows[0].optimality_gap is None
    assert "No target score is known" in conclusions(summaries[0])[-1]


def test_rows_of_one_task_are_joined_and_told_apart() -> None:
    other = replace(row("vae", 3), algorithm="DQN")
    joined = join([task(row("vae", 5), *PLAYERS), task(other, *PLAYERS, source="two")])
    assert [one.label for one in joined[0].rows] == ["vae with PPO", "vae with DQN", "random", "scripted"]
    # joined once more
    assert [one.label for one in join([*joined, task(row("pca", 1), name="VoxelNavigate-v0")])[0].rows] == [
        one.label for one in joined[0].rows
    ]
    assert len({one.key for one in joined[0].rows}) == 4
    joined = join([task(row("vae", 5), *PLAYERS), task(row("vae", 3), *PLAYERS, source="two")])
    assert [one.label for one in joined[0].rows][:2] == ["vae", "vae (two)"]
    assert len(join([task(row("vae", 5)), task(row("vae", 5), steps=200)])) == 2


def test_joined_reports_read_what_comparisons_wrote_and_can_be_joined_again(tmp_path: Path, capsys, no_figures) -> None:
    treechop, navigate = task(row("vae", 6), *PLAYERS), task(row("vae", 60), *PLAYERS, name="VoxelNavigate-v0", source="two")
    write_files(tmp_path / "one", [treechop], "first")
    write_files(tmp_path / "two", [navigate], "second")
    assert read_results(tmp_path / "one") == [treechop]
    assert compare(["join", str(tmp_path / "one"), str(tmp_path / "two"), "--run", str(tmp_path / "both")]) == 0
    assert "report.html" in capsys.readouterr().out
    assert read_results(tmp_path / "both") == [treechop, navigate]
    page = (tmp_path / "both" / "report.html").read_text()
    assert "python compare_encoders.py one" in page
    assert "python compare_encoders.py two" in page


def test_figures_of_an_earlier_report_do_not_stay_beside_a_new_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("comparison.report.files.figures", lambda summary, colours: {"intervals": Figure(figsize=(1, 1))})
    treechop, navigate = task(row("vae", 6), *PLAYERS), task(row("vae", 60), *PLAYERS, name="VoxelNavigate-v0", source="two")
    write_files(tmp_path, [treechop, navigate], "both")
    (tmp_path / "curves_mine.png").touch()
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        f"intervals_{name}.svg" for name in ("all_tasks", "VoxelTreechop_v0", "VoxelNavigate_v0")
    }
    write_files(tmp_path, [treechop], "one")
    assert {path.name for path in tmp_path.iterdir() if path.suffix in (".png", ".svg")} == {
        "intervals.png",
        "intervals.svg",
        "curves_mine.png",
    }


def test_what_cannot_be_joined_says_why(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "comparison.json").write_text('{"format": 1}')
    with pytest.raises(UserError, match="format 1, this version reads 2 and 3; write it again"):
        join_reports((tmp_path / "old", tmp_path / "none"), tmp_path / "out", "")
    with pytest.raises(UserError, match="name the folder of a finished comparison"):
        read_results(tmp_path / "none")
    with pytest.raises(UserError, match="named twice"):
        join_reports((tmp_path / "old", tmp_path / "old"), tmp_path / "out", "")
    with pytest.raises(UserError, match="two folders or more"):
        compare(["join", str(tmp_path / "old"), "--run", str(tmp_path / "out")])
    for name, what in (("runs", "a comparison's runs"), ("trials", "a search's trials")):
        (tmp_path / f"with_{name}" / name).mkdir(parents=True)
        with pytest.raises(UserError, match=f"with_{name}: holds {what}; choose another --run"):
            join_reports((tmp_path / "old", tmp_path / "none"), tmp_path / f"with_{name}", "")


def test_brackets_in_a_label_are_printed_as_they_are(capsys) -> None:
    print_table(summarise([task(row("vae (run[red])", 5), *PLAYERS)]))
    assert capsys.readouterr().out.count("run[red]") == 2


def test_tables_as_csv_have_a_line_a_run_and_a_line_a_row(tmp_path: Path, no_figures) -> None:
    write_files(tmp_path, [task(row("vae", 5), *PLAYERS)], "the command")
    runs = list(csv.DictReader(io.StringIO((tmp_path / "comparison.csv").read_text())))
    assert len(runs) == 3 * SEEDS
    assert float(runs[0]["normalised"]) == pytest.approx((float(runs[0]["mean_return"]) - 1) / 10)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert [line["row"] for line in rows] == ["vae", "random", "scripted"]
    assert (float(rows[0]["encode_milliseconds"]), rows[0]["encode_batch"]) == (0.5, "8")


def test_an_encoder_is_measured_once_for_its_weights(tmp_path: Path, monkeypatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    store = StoreReference(path="store", fingerprint="f", frames_per_second=20.0, resize="squash")
    prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, tmp_path / "encoder", store=store)
    measured = []
    real = facts_module.measure_speed
    monkeypatch.setattr(facts_module, "measure_speed", lambda *about: measured.append(about) or real(*about))
    result = {
        "encoder": {"name": "conv_vae", "reading": "mean", "latents": [16]},
        "encoder_parameters": 5,
        "encoder_folder": str(tmp_path / "encoder"),
        "device": {"encoder": "cpu"},
        "threads": 1,
    }
    first = encoder_facts(result, 4, SpeedCache(tmp_path / "speed.json"))
    again = encoder_facts(result, 4, SpeedCache(tmp_path / "speed.json"))
    assert first == again
    assert len(measured) == 1
    assert first
    assert first.speed
    assert first.speed.batch == 4
    assert first.speed.milliseconds > 0
    gone = encoder_facts({**result, "encoder_folder": str(tmp_path / "moved")}, 4, SpeedCache(tmp_path / "speed.json"))
    assert gone
    assert gone.speed is None


@pytest.mark.parametrize(("reading", "shape"), [("slots", [3, 13]), ("slots_flat", [39]), ("masks", [3, 8, 8])])
def test_a_row_on_slots_tells_of_its_encoder_in_whichever_reading(reading: str, shape: list[int], tmp_path: Path, no_figures) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    store = StoreReference(path="store", fingerprint="f", frames_per_second=20.0, resize="squash")
    made = prepare(make_encoder("efficientmorl_debug", frame_shape=[32, 32, 3]), frames, tmp_path / "encoder", store=store)
    about = {"name": "efficientmorl", "reading": reading, "latents": shape}
    where = {"encoder_folder": str(tmp_path / "encoder"), "device": {"encoder": "cpu"}, "threads": 1}
    found = encoder_facts({"encoder": about, "encoder_parameters": 5, **where}, 2, SpeedCache(tmp_path / "speed.json"))
    assert found
    assert list(made.model.latents[reading]) == shape == found.latents
    assert (found.speed is not None, found.generates) == (True, True)
    for active, collapsed in ((0, True), (8, False)):
        info = replace(made.info, validation={"active_units_slots": active})
        assert facts_module.has_collapsed(made.model, info, reading) is collapsed
    slots = row("slots", 5)
    write_files(tmp_path, [task(replace(slots, encoder=found), row("pixels", 5, "control"), *PLAYERS)], "the command")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert rows[0]["latents"] == f"{np.prod(shape)}"


def test_collapse_is_judged_by_the_share_of_active_units(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    store = StoreReference(path="store", fingerprint="f", frames_per_second=20.0, resize="squash")
    made = prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, tmp_path, store=store)
    for active, collapsed in ((1, True), (2, False)):
        info = replace(made.info, validation={"active_units_mean": active, "bits_per_dim": 1.0})
        assert facts_module.has_collapsed(made.model, info) is collapsed
    assert facts_module.has_collapsed(made.model, replace(made.info, validation={"objective": 1.0})) is None


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


def test_json_has_the_numbers_and_no_nan(tmp_path: Path, no_figures) -> None:
    broken = replace(row("vae", 5), runs=[], failures=["vae/seed0: no memory"])
    write_files(tmp_path, [task(broken, row("pca", 2, "control"), *PLAYERS)], "the command")
    content = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [line["iqm"] for line in content["rows"]] == [None, pytest.approx(2), pytest.approx(1), pytest.approx(11)]
    assert "vae/seed0: no memory" in (tmp_path / "report.html").read_text()


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


def test_an_encoder_says_what_it_learned_from_and_how_good_its_heads_are(tmp_path: Path, no_figures) -> None:
    made = EncoderFacts("points", [48], 1234, trained_steps=4000, learned_from="frames, rewards of VoxelTreechop-v0")
    write_files(tmp_path, [task(replace(row("points", 5), encoder=made), *PLAYERS)], "the command")
    assert "<td>frames, rewards of VoxelTreechop-v0</td>" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"][0]["learned_from"] == "frames, rewards of VoxelTreechop-v0"
    found = {"objective": 0.71, "heads_value": 0.4, "heads_value_auc": 0.912, "heads_actions_numbers_r2": 0.25}
    assert facts_module.validation_line(replace(made, validation=found)) == "value AUC 0.91, actions numbers R² 0.25"
    assert facts_module.validation_line(replace(made, validation={"objective": 0.71})) == "objective 0.71"


def test_the_film_of_an_encoder_without_pictures_promises_no_reconstructions(tmp_path: Path, no_figures) -> None:
    write_episode(tmp_path / "pictures", [np.zeros((64, 64, 3), np.uint8)] * 3, 5.0, None)
    ours = row("points", 5, pictures=str(tmp_path / "pictures"))
    assert ours.encoder
    told = row("oracle", 5, "control", pictures=str(tmp_path / "pictures"))
    write_files(tmp_path, [task(replace(ours, encoder=replace(ours.encoder, generates=False)), told, *PLAYERS)], "the command")
    page = (tmp_path / "report.html").read_text()
    assert "<b>points</b>: what it saw; return" in page
    assert "<b>oracle</b>: what stood before it, which it was told of in numbers; return" in page
