"""What the runs in a comparison's folder came to, row by row, with what is known of the encoders that they saw through."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agents.run.config import LEARNING, PIXEL_ROWS, plain
from agents.run.pictures import FILM, STRIP
from comparison.comparison import Comparison
from comparison.encoder_facts import EncoderFacts, SpeedCache, encoder_facts, read_probes
from comparison.grid import Part, Row
from comparison.joining import join
from comparison.results import Point, RowResults, Run, TaskResults
from foundation.env_options import shareable
from wrappers.opening import info_of


def collect(comparison: Comparison, command: str, versions: dict[str, str]) -> list[TaskResults]:
    """Read the results of every row from its runs' folders, and measure encoders that were not measured yet."""
    speeds = SpeedCache(comparison.config.run / "encoders" / "speed.json")
    names = _algorithm_names(comparison.parts)
    return join([_collect_part(part, names[part.agent], command, versions, speeds) for part in comparison.parts])


def _collect_part(part: Part, algorithm: str, command: str, versions: dict[str, str], speeds: SpeedCache) -> TaskResults:
    settings = plain(part.config) | {"environment": shareable(plain(part.environment))}
    learning = {name: plain(own) for name, own in part.asked.learning.items() if name in part.config.controls}
    algorithms = {algorithm: {**settings.pop("algorithm"), "pixels": plain(part.asked.pixels), **learning}}
    rows = [_row(part, row, algorithm, speeds) for row in part.rows]
    variant = part.task + (", continuous actions" if part.environment.continuous else "")
    return TaskResults(
        name=part.environment.name,
        settings=settings,
        algorithms=algorithms,
        commands=[command],
        versions=versions,
        rows=rows,
        source=part.config.run.resolve().name,
        variant=variant,
    )


def _algorithm_names(parts: Sequence[Part]) -> dict[str, str]:
    """Return each agent preset's algorithm, with the preset's name where several are of one algorithm."""
    kinds = {part.agent: type(part.config.algorithm).__name__.removesuffix("Settings") for part in parts}
    return {agent: f"{kind} ({agent})" if list(kinds.values()).count(kind) > 1 else kind for agent, kind in kinds.items()}


def _row(part: Part, row: Row, algorithm: str, speeds: SpeedCache) -> RowResults:
    cells = part.cells_of(row)
    results = {cell.key: result for cell in cells if (result := cell.result()) is not None}
    first = next(iter(results.values()), {})
    settings, shared = part.asked.algorithm_of(row.control), plain(part.config.algorithm)
    origin = part.asked.origins.get((row.control or "") if row.control in PIXEL_ROWS else "")
    filmed = (cell.folder / "pictures" for cell in cells if cell.key in results)
    return RowResults(
        key=cells[0].key.rpartition("/")[0],
        label=row.label,
        kind=row.kind,
        runs=[_run(result) for result in results.values()],
        failures=[f"{cell.key}: {cell.failure() or 'not run'}" for cell in cells if cell.key not in results],
        player=row.player,
        algorithm=None if row.player else algorithm,
        encoder=_facts(part, row, first, settings.n_envs, speeds),
        policy_parameters=first.get("policy_parameters"),
        learning_parameters=first.get("learning_parameters"),
        own_settings={} if row.player else {key: value for key, value in plain(settings).items() if value != shared.get(key)},
        preset=origin.preset if origin and not row.player else None,
        tuning=origin.tuning if origin and not row.player else None,
        pictures=next((str(folder) for folder in filmed if (folder / FILM).is_file() or (folder / STRIP).is_file()), None),
        control=row.control,
    )


def _facts(part: Part, row: Row, result: dict[str, Any], batch: int, speeds: SpeedCache) -> EncoderFacts | None:
    """Describe a row's encoder; what mirrors the first encoder was probed beside it, unless it was evaluated itself."""
    found = encoder_facts(result, batch, speeds, None if row.control else row.encoder)
    if found is not None and row.control in LEARNING:
        learned = " then ".join([*([found.learned_from] if found.learned_from else []), "with its agent"])
        # what was found of it before holds no more
        size = found.used_parameters or found.parameters
        return replace(found, parameters=size, validation=None, collapsed=None, probes={}, generates=False, learned_from=learned)
    if found is None or found.probes or row.control not in ("untrained", "pca"):
        return found
    mirrored = part.config.encoders[0]
    return replace(found, probes=read_probes(mirrored, info_of(mirrored), who=row.control))


def _run(result: dict[str, Any]) -> Run:
    curve = [Point(point["step"], float(np.mean(point["returns"])), point.get("seconds")) for point in result.get("curve", [])]
    known = ("seconds", "evaluation_seconds", "machine", "restarts", "attempts")
    fields = {key: result[key] for key in known if key in result}
    return Run(result["seed"], result["steps"], result["final_return"], result["final_returns"], curve, **fields)
