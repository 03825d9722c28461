"""Command lines of runs: an environment preset, an agent preset, and options that override both."""

from collections.abc import Sequence
from dataclasses import field, fields, make_dataclass
from typing import Any, TypeVar

from agents.learning.algorithms import settings_class
from agents.learning.learner import Learner
from agents.run.config import LEARNING, PIXEL_ROWS, TrainingConfig
from agents.run.environment_config import add_options, lies_in_a_run, refuse_unasked
from foundation.env_options import EVALUATION_PREFIX, Scalar, take_env_options
from foundation.errors import UserError, in_one_line
from foundation.places import take_addresses
from foundation.presets import command_line, read_preset
from foundation.telling import tell

_OURS = ("Voxel", "MineRL")
"""How the names of environments begin that share options, such as `episode_ticks`."""

_LAYERS = ("net_arch", "set_policy", "set_width", "lstm_hidden_size")
"""Settings of what stands behind an encoder."""

Config = TypeVar("Config", bound=TrainingConfig)


def read_command(
    schema: type[Config], description: str, argv: Sequence[str], *, control: str | None = None, layers_of: str | None = None
) -> Config:
    """Parse `ENVIRONMENT_PRESET --agent AGENT_PRESET [--env.option value ...] [--field value ...]`, and options of evaluation's worlds.

    An agent preset names its algorithm (`kind`) and holds its settings, under `pixels:`, `pixels_same:` and `finetuned:` those that differ
    for these controls, and under `environment:` what it needs of the environment. `control` says whose hold ("": those on latents; None:
    as `--control` or the environment preset says), `layers_of` as in `agent_settings`. What an environment preset says under `algorithm:`
    overrides them.
    """
    argv, options = take_env_options(argv)
    argv, evaluated = take_env_options(argv, EVALUATION_PREFIX)
    argv, agents = take_words(argv, "--agent")
    if len(agents) > 1:
        raise UserError(f"one --agent trains here, got {', '.join(agents)}; compare_encoders.py takes several")
    presets_own: dict[str, Any] = {}

    def with_agent(values: dict[str, Any]) -> type[Config]:
        take_addresses(values, argv, argv[0])
        own, named = values.get("algorithm", {}), own_agent(values)
        values.pop("agent", None)
        if isinstance(values.get("environment"), dict):
            presets_own.update(values["environment"])
        add_options(values, options)
        add_options(values, evaluated, "evaluation", "environment")
        if not isinstance(own, dict):
            raise UserError(f"'algorithm' must hold a mapping of keys to values, got {own!r}")
        seeing = str(_option(argv, "--control") or values.get("control") or "") if control is None else control
        settings = agent_settings(agents[0] if agents else named, seeing, layers_of)
        needed = settings.pop("environment", {})
        if needed and isinstance(values.get("environment"), dict):
            values["environment"] = {**values["environment"], **needed}
        values["algorithm"] = {**settings, **own}
        return _with_settings_of(settings_class(values["algorithm"]), schema)

    parsed = command_line("env", with_agent, description, argv)
    config = schema(**{one.name: getattr(parsed, one.name) for one in fields(schema)})
    for preset in [*argv[:1], *agents]:
        refuse_unasked(preset, config.environment, _option(argv, "--environment.name"), "--environment.name", options)
    if argv and lies_in_a_run(argv[0]):
        _refuse_elsewhere(argv, config)
    if config.environment.name != (before := presets_own.get("name", config.environment.name)):
        _settle_options(config, presets_own.get("options", {}), before, options, evaluated)
    config.check()
    return config


def _refuse_elsewhere(argv: list[str], config: TrainingConfig) -> None:
    """Raise `UserError` where a preset that may be somebody else's says where to write, or which cluster to send code to and run with."""
    for option, value in (("--run", getattr(config, "run", None)), ("--ray.address", config.ray.address)):
        # without a value: tyro has asked for it
        if value is not None and _option(argv, option) is None:
            raise UserError(f"{argv[0]}: says {option} {in_one_line(value)}, and a file that may be shared does not: add {option} yourself")


def _settle_options(
    config: TrainingConfig, own: dict[str, Scalar], before: str, given: dict[str, Scalar], evaluated: dict[str, Scalar]
) -> None:
    """Say what becomes of a preset's `own` options where the command line names another environment than the one `before`.

    Ours share theirs. Anybody else's knows none of them, and gets what the command line gives alone: `given`, and `evaluated` to judge in.
    """
    environment, judged = config.environment, config.evaluation.environment
    sections = ((own, given), (judged, evaluated))
    listed = ", ".join(f"{name} {value}" for options, asked in sections for name, value in options.items() if name not in asked)
    if not listed:
        return
    if before.startswith(_OURS) and not environment.name.startswith(_OURS):
        environment.options = {name: value for name, value in environment.options.items() if name in given or value != own.get(name)}
        config.evaluation.environment = {name: value for name, value in judged.items() if name in evaluated}
        tell(f"{environment.name} in place of {before}: the preset's options for that are left out ({listed})")
    else:
        tell(f"{environment.name} in place of {before}: the preset's options hold for it too ({listed}); --env.NAME VALUE sets others")


def agent_settings(preset: str, control: str | None, layers_of: str | None = None) -> dict[str, Any]:
    """Return the algorithm's settings of an agent preset, for a control or for latents; and `environment`, where the preset has it.

    What learns an encoder end to end has the settings on pixels but for the layers behind the encoder: those on latents, of the preset
    `layers_of` where that is another, unless the control's own section names them.
    """
    values = read_preset("agent", preset)
    for part in (*PIXEL_ROWS, "environment"):
        if not isinstance(values.get(part, {}), dict):
            raise UserError(f"agent preset '{preset}': '{part}' must hold a mapping of keys to values")
    special: dict[str, dict[str, Any]] = {row: values.pop(row, {}) for row in PIXEL_ROWS}
    if control in LEARNING:
        behind = values if layers_of is None else agent_settings(layers_of, control)
        on_pixels = {key: value for key, value in {**values, **special["pixels"]}.items() if key not in _LAYERS}
        values = {**on_pixels, **{key: value for key, value in behind.items() if key in _LAYERS}}
    values |= special.get(control or "", {})
    values.pop("tuning", None)
    return values


def own_agent(values: dict[str, Any]) -> str:
    named = values.get("agent", "ppo")
    if not isinstance(named, str):
        raise UserError(f"'agent' must name a preset of configs/agent/, got {named!r}")
    return named


def _option(argv: list[str], name: str) -> str | None:
    for position, word in enumerate(argv):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and position + 1 < len(argv):
            return argv[position + 1]
    return None


def take_words(argv: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """Part the words of an option, up to the next option, from the other words of a command line."""
    rest: list[str] = []
    taken: list[str] = []
    taking = False
    for word in argv:
        if word == name or word.startswith(f"{name}="):
            taking = True
            taken += [word.partition("=")[2]] if word != name else []
        elif taking and not word.startswith("-"):
            taken.append(word)
        else:
            taking = False
            rest.append(word)
    if not taken and len(rest) < len(argv):
        raise UserError(f"{name} needs a value")
    return rest, taken


def _with_settings_of(algorithm: type[Learner], schema: type) -> type:
    """Return `schema` with the one algorithm's settings, so that options and errors are of that algorithm alone."""
    own = [("algorithm", algorithm, field(default_factory=algorithm))]
    return make_dataclass(schema.__name__, own, bases=(schema,), kw_only=True, namespace={"__doc__": schema.__doc__})
