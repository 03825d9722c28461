"""Which commands suit a store that was just made or looked at, and what its splits lack."""

import re
from typing import Any

from foundation.presets import preset_names, read_preset
from frames.store import FrameStore

_FOR_CLIPS = "cwvae_small"
_FOR_DRAWN = {
    "Tetrominoes": ("efficientmorl_tetrominoes",),
    "MultiDSprites": ("efficientmorl_dsprites",),
    "MovingDigits": ("cwvae_mmnist", "cwvae_tiny"),
}
"""By what was drawn: presets of encoders with slots, or of encoders with memory."""
_PLAYED = re.compile(r"(?P<name>\S+)( \((?P<options>.*)\))?")


def with_next(*commands: str) -> list[str]:
    """Return lines that show which commands come next."""
    return [f"{'      ' if number else 'next: '}{command}" for number, command in enumerate(commands)]


def next_commands(store: FrameStore) -> list[str]:
    """Return what can be trained on a store: an encoder; one that learns from clips; an agent, where an environment was recorded."""
    height, width, _ = store.frame_shape
    shape = "" if (height, width) == (64, 64) else f" --model.frame-shape {height} {width} 3"
    train = "python train_encoder.py {} --store {} --run {}"
    source = str(store.meta["plan"]["source"])
    if source in _FOR_DRAWN and "players" not in store.meta["plan"]:
        return [train.format(preset, store.path, "RUN") for preset in _FOR_DRAWN[source]]
    commands = [train.format("conv_vae_small", store.path, "RUN") + shape]
    clip = read_preset("encoder", _FOR_CLIPS)["model"]["clip_length"]
    if any(episode.ordered and episode.length >= clip for episode in store.episodes):
        commands.append(train.format(_FOR_CLIPS, store.path, "RUN") + shape + f"  # or this: it learns from clips of {clip} frames")
    agent = agent_command(store, "RUN")
    return [*commands, f"{agent}  # after that"] if agent else commands


def agent_command(store: FrameStore, encoder: str) -> str | None:
    """Return how an agent is trained in the one environment that all of a store was recorded in; None for recordings of people."""
    plans = _plans(store)
    played = [found for plan in plans if "players" in plan and (found := _PLAYED.fullmatch(str(plan.get("source", ""))))]
    if len(played) < len(plans) or len({one["name"] for one in played}) > 1:
        return None
    words = ["python", "train_agent.py", *_preset_of(played[0]["name"])]
    options = [list(filter(None, (one["options"] or "").split(", "))) for one in played]
    for option in options[0]:
        name, _, value = option.partition("=")
        words += [f"--env.{name}", value] if all(option in others for others in options) else []
    return " ".join([*words, "--encoder", encoder, "--run", "RUN2"])


def _plans(store: FrameStore) -> list[dict[str, Any]]:
    """Return how a store was recorded, or how the parts of a merged one were, and what was appended."""
    parts = _mappings([part.get("plan") for part in _mappings(store.meta.get("made_of"))])
    return [*(parts or [store.meta["plan"]]), *_mappings(store.meta.get("appended"))]


def _mappings(found: Any) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def one_split_line(store: FrameStore) -> str | None:
    """Say that a store has nothing to train on, or nothing to validate on, where that is so, and what to do."""
    splits, count = {episode.split for episode in store.episodes}, len(store.episodes)
    if {"train", "val"} <= splits:
        return None
    lacking = "train and validate on" if splits == {"test"} else "validate on" if "train" in splits else "train on"
    held = f"{count:,} recording{'s' if count > 1 else ''} in {' and '.join(repr(split) for split in sorted(splits))}"
    if "made_of" in store.meta:
        remedy = "every recording keeps its split; merge with a store that has some"
    elif len(splits) > 1:
        remedy = "give --val 0.1 or so"
    else:
        remedy = "leave out --split" if count > 1 else "add recordings, or record more and shorter episodes"
    return f"{'all in one split: ' if len(splits) == 1 else ''}{held}, none to {lacking}; an encoder needs both: {remedy}"


def _preset_of(environment: str) -> list[str]:
    """Return the preset of an environment, or one of the same package with the name said beside it."""
    named = {preset: _environment(read_preset("env", preset)).get("name") for preset in preset_names("env") if preset != "debug"}
    exact = next((preset for preset, name in named.items() if name == environment), None)
    if exact is not None:
        return [exact]
    package = environment.rpartition("/")[0] or environment.partition(":")[0]
    akin = next((preset for preset, name in named.items() if ":" in environment and str(name).startswith(package)), None)
    return [akin or "PRESET.yaml", "--environment.name", environment]


def _environment(preset: dict[str, Any]) -> dict[str, Any]:
    environment = preset.get("environment")
    return environment if isinstance(environment, dict) else {}
