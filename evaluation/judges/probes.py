"""What can be read out of the latents: probes beside the same probes on pixels' components and on an untrained encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, at_least
from foundation.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from evaluation.evaluation import Evaluation
    from evaluation.probing import Target
    from frames import FrameStore

_SHOWN = {
    "block": "block at the crosshair",
    "block_distance": "distance of that block",
    "action": "action taken",
    "reward_to_come": "reward to come over {above:g}",
    "reward_soon": "reward within {seconds:g} s",
    "time_to_reward": "log time to reward",
}
_METRICS = {"R2": "R²", "balanced accuracy": "accuracy"}
_CLEARLY = 0.02
_FEW = 10
_ROWS = {"encoder": "latents", "pca": "pixels' PCA", "untrained": "untrained"}


@dataclass(frozen=True)
class ProbesOptions:
    frames: int = 6000
    """Frames to learn from, and as many to score, spread over the recordings of each half."""
    above: float = 0.3
    """Where the reward to come (discounted by 0.98 a frame, at most 1) counts as high."""
    seconds: float = 2.0
    """A reward within so many seconds counts as soon."""
    longest: float = 10.0
    """Times to the next reward count as so many seconds at most."""

    def __post_init__(self) -> None:
        at_least("probes", self, frames=100)
        for name in ("above", "seconds", "longest"):
            if getattr(self, name) <= 0:
                raise UserError(f"--probes.{name} {getattr(self, name)}: must be greater than 0")


class Probes(Judge):
    """Linear and one-hidden-layer probes for state, action, reward and time to it, learned on half of the held-out recordings."""

    name = "probes"
    Options = ProbesOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        from evaluation.probe_targets import has_targets
        from evaluation.sampled import lacks_recordings

        return lacks_recordings(store) or (None if has_targets(store) else "the store holds no state, actions or rewards to tell")

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: ProbesOptions, out: Evaluation) -> Numbers:
        import numpy as np

        from evaluation.probe_targets import Wanted, targets_of
        from evaluation.sampled import halves, sampled

        shared = halves(store, out.split)
        parts = [sampled(store, half, artifact.model, out.stride(store), options.frames) for half in (shared.first, shared.second)]
        indices = np.concatenate([part.indices for part in parts])
        first_half = np.arange(len(indices)) < len(parts[0].indices)
        targets, left_out = targets_of(store, indices, first_half, Wanted(options.above, options.seconds, options.longest))
        if left_out:
            out.say(f"probes: left out, since too few of these frames differ in it: {', '.join(left_out)}")
        if not targets:
            out.verdict(f"Split '{out.split}' is too small, or too much alike, for probes: build a store of more recordings.")
            return {}
        ways = [first_half] if shared.note else [first_half, ~first_half]
        # numbered as they were shared out, by player
        numbers = {episode.first: number for number, episode in enumerate([*shared.first, *shared.second])}
        recordings = np.array([numbers[store.episode_at(index).first] for index in indices.tolist()])
        latents = _latents(artifact, parts, out)
        with out.progress("fitting probes", len(latents) * len(ways), "sets") as advance:
            scores = {row: _scores(read, ways, recordings, targets, advance) for row, read in latents.items()}
        found = {
            "reading": artifact.model.reading(None),
            "size": int(np.prod(artifact.model.latents[artifact.model.reading(None)])),
            "recordings": [len(shared.first), len(shared.second)],
            "frames": [int(first_half.sum()), int((~first_half).sum())],
            "both_ways": not shared.note,
            "probes": {target.name: _entry(target, scores) for target in targets},
        }
        _show(found, options, out)
        if shared.note:
            out.say(f"probes: {shared.note}")
        if (held_out := len(store.of_split(out.split))) < _FEW:
            out.say(
                f"probes: only {held_out} recordings in '{out.split}': others would score otherwise; build the store with more, --val 0.3"
            )
        return found


def _latents(artifact: encoders.EncoderArtifact, parts: list[Any], out: Evaluation) -> dict[str, np.ndarray]:
    """Return what each row reads of the frames of both halves."""
    import numpy as np

    from evaluation.rivals import WIDEST, components_of, latents_of, narrowed, untrained_twin
    from evaluation.sampled import Sampled

    model = artifact.model
    twin, size = untrained_twin(artifact), int(np.prod(model.latents[model.reading(None)]))
    rows = {"encoder": model, "pca": components_of(out.training, min(size, WIDEST)).to(out.device)}
    if twin is not None:
        rows["untrained"] = twin.to(out.device)
    found = {}
    with out.progress("reading frames", len(rows) * sum(len(part.indices) for part in parts), "frames") as advance:
        for name, one in rows.items():
            # components have no memory, and take the same frames one by one
            seen = [part if name != "pca" else Sampled(part.store, part.indices, 1, part.strides, False) for part in parts]
            found[name] = narrowed(np.concatenate([latents_of(one, part, out.device, advance) for part in seen]))
    if size > WIDEST:
        out.say(f"probes: the reading has {size:,} numbers; probes see its {WIDEST} leading principal components")
    return found


def _scores(
    latents: np.ndarray, ways: list[np.ndarray], recordings: np.ndarray, targets: list[Target], advance: Callable[[], None]
) -> dict[str, dict[str, tuple[float, tuple[float, ...]]]]:
    """Return by kind of probe and target the score, and that of each part, averaged over `ways` to halve the frames."""
    import numpy as np

    from evaluation.probing import Probes as Fitted
    from evaluation.probing import kept_to_choose

    found = []
    for learned in ways:
        probes = Fitted(latents, learned, kept_to_choose(recordings, learned))
        found.append({"linear": probes.linear(targets), "mlp": probes.network(targets)})
        advance()
    return {
        kind: {
            target.name: (
                float(np.mean([way[kind][target.name].score for way in found])),
                tuple(np.mean([way[kind][target.name].parts for way in found], 0).tolist()),
            )
            for target in targets
        }
        for kind in ("linear", "mlp")
    }


def _entry(target: Target, scores: dict[str, Any]) -> dict[str, Any]:
    """Return what `evaluation.json` holds of a target."""
    from evaluation.probing import CHANCE

    entry: dict[str, Any] = {"metric": target.metric, "chance": CHANCE[target.metric]}
    for row, kinds in scores.items():
        entry[row] = {kind: round(found[target.name][0], 4) for kind, found in kinds.items()}
    if len(target.parts) > 1:
        linear = scores["encoder"]["linear"][target.name][1]
        entry["parts"] = {part: round(score, 4) for part, score in zip(target.parts, linear, strict=True)}
    return entry


def _show(numbers: Numbers, options: ProbesOptions, out: Evaluation) -> None:
    found = numbers["probes"]
    present = [row for row in _ROWS if row in next(iter(found.values()))]
    rows = []
    for name, entry in found.items():
        shown = _SHOWN.get(name, name.replace("_", " ")).format(**asdict(options))
        scores = [f"{entry[row]['linear']:.2f} {entry[row]['mlp']:5.2f}" for row in present]
        rows.append((shown, _METRICS.get(entry["metric"], entry["metric"]), *scores))
    (one, other), recordings = numbers["frames"], numbers["recordings"]
    title = (
        f"Probes, linear and of one hidden layer, of '{numbers['reading']}' ({numbers['size']:,} numbers): learned on {one:,} frames of "
        f"{recordings[0]} recordings, scored on {other:,} of {recordings[1]} others"
    )
    out.table(title + (", and the other way round" if numbers["both_ways"] else ""), ("", "score", *(_ROWS[row] for row in present)), rows)
    out.verdict(_verdict(found, present))


def _verdict(found: dict[str, Any], present: list[str]) -> str:
    """Count the targets that linear probes read better from the latents than from what needs no learning."""
    said = []
    for row in present[1:]:
        better = [name for name, entry in found.items() if entry["encoder"]["linear"] >= entry[row]["linear"] + _CLEARLY]
        said.append(f"{len(better)} of {len(found)} better than from {'an untrained encoder' if row == 'untrained' else _ROWS[row]}")
    return f"Of what recordings hold, linear probes read from the latents {', and '.join(said)} (by {_CLEARLY:g} or more)."
