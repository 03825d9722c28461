"""What the groups of a hierarchy's latents carry, which reading is worth giving to an agent, and samples at several temperatures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, untrained_decoder
from foundation.errors import UserError

if TYPE_CHECKING:
    from encoders.encoder import SamplesAtTemperature
    from evaluation.evaluation import Evaluation
    from frames import FrameStore


@dataclass(frozen=True)
class HierarchyOptions:
    temperatures: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0)
    """Temperatures at which samples are drawn for the picture."""

    def __post_init__(self) -> None:
        if not self.temperatures or not all(0 < temperature < math.inf for temperature in self.temperatures):
            given = " ".join(f"{temperature:g}" for temperature in self.temperatures)
            raise UserError(f"--hierarchy.temperatures {given}: give numbers greater than 0".replace(" :", ":"))


class Hierarchy(Judge):
    """KL and active channels of every group of latents, the readings that carry enough, and the recommended one."""

    name = "hierarchy"
    Options = HierarchyOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        is_one = isinstance(model, encoders.HasGroups) and isinstance(model, encoders.Generates)
        return untrained_decoder(model) if is_one else "its latents have no groups"

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: HierarchyOptions, out: Evaluation) -> Numbers:
        from encoders.encoder import SamplesAtTemperature

        numbers = judge_groups(artifact.model, out.held_out.kl_per_unit)
        if isinstance(artifact.model, SamplesAtTemperature):
            _draw(artifact.model, options.temperatures, out)
        _show(numbers["groups"], out)
        out.verdict(numbers["verdict"])
        return numbers


def judge_groups(model: encoders.Encoder, kl_per_unit: dict[str, list[float]]) -> dict[str, Any]:
    """Return what the groups of latents carry, coarsest first, given the mean KL of every unit in nats, and which readings to use."""
    import torch

    assert isinstance(model, encoders.HasGroups)
    kl = {name: torch.tensor(values, dtype=torch.float64) for name, values in kl_per_unit.items()}
    readings = model.reading_information(kl)
    return {
        "groups": [{**asdict(group), "bits": group.kl / math.log(2)} for group in model.group_information(kl)],
        "readings": {reading.name: {**asdict(reading), "informative": reading.is_informative} for reading in readings},
        "recommended_latents": model.recommended_reading(kl)[0],
        "default_latents": model.reading(None),
        "verdict": _verdict(model, kl),
    }


def _verdict(model: Any, kl: dict[str, Any]) -> str:
    """Say which reading is recommended and why, and which one agents get."""
    name, reason = model.recommended_reading(kl)
    default = model.reading(None)
    recommended = next(reading for reading in model.reading_information(kl) if reading.name == name)
    said = f"Recommended for agents: '{name}' ({recommended.active_channels} of {recommended.channels} channels), {reason};"
    if name == default:
        return f"{said} they get it by default."
    return f"{said} they get '{default}' by default: give train_agent.py --latents {name}."


def _draw(model: SamplesAtTemperature, temperatures: tuple[float, ...], out: Evaluation) -> None:
    from evaluation.samples import tempered_samples

    with out.progress("sampling", 2 * len(temperatures), "rows") as advance:
        out.picture("temperatures", tempered_samples(model, temperatures, advance))


def _show(groups: list[dict[str, Any]], out: Evaluation) -> None:
    rows = []
    for number, group in enumerate(groups, 1):
        size, active = "x".join(map(str, group["size"])), f"{group['active_channels']} of {group['channels']}"
        rows.append((str(number), str(group["scale"]), size, f"{group['kl']:.2f}", f"{group['bits']:.2f}", active))
    out.table("Groups of latents, coarsest first", ("group", "scale", "size", "KL, nats a frame", "bits", "active channels"), rows)
