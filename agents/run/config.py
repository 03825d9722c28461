"""What a run is: an encoder or a control, an environment, an algorithm, a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from agents.learning.algorithms import Learner, PPOSettings, build_algorithm, settings_class
from foundation.env_options import Scalar, take_env_options
from foundation.errors import UserError
from foundation.presets import build, command_line, read_preset, to_dict

ACTOR_CPUS = 0.1
"""What an environment actor asks of Ray, together with evaluation's beside it: environments wait more than they compute."""

_ONE_FOR_ALL = ("run", "workers", "ray", "remote", "device", "policy_device")
"""What all parts of a comparison share, whatever their presets say."""

CONTROLS = ("pixels", "untrained", "pca")
Control = Literal["pixels", "untrained", "pca"]


@dataclass
class EnvironmentConfig:
    """An environment and how an agent acts in it."""

    name: str
    """As `envs.make_env` knows it."""
    options: dict[str, int | float | str | bool] = field(default_factory=dict)
    """What `envs.make_env` takes beside the name."""
    frame_skip: int = 4
    """Game ticks an agent step."""
    actions: str = "treechop"
    """List of combined actions, for environments with MineRL's action dictionary."""
    continuous: bool = False
    """MineRL's actions as a vector in place of the list: pitch, yaw, and a number for each key that the list uses."""
    camera_degrees: float = 15.0
    """One camera action turns by this; a continuous one by at most this."""
    sticky_attack: int = 0
    """Agent steps for which an attack is held."""
    pitch_limit: float = 60.0
    """Degrees up and down within which the view stays."""
    action_store: Path | None = None
    """Frame store of recorded action vectors, for VectorObf environments: agents choose among so many of them."""
    action_count: int = 32
    """Recorded action vectors that agents choose among."""
    action_seed: int = 0
    """Seed of the clustering that finds them."""
    action_sha256: str | None = None
    """Hash of those vectors; a run fills it in, and refuses others from then on."""
    frame_size: tuple[int, int] | None = None
    """Height and width that pictures are resized to; default: as they come."""
    resize: Literal["squash", "crop"] = "squash"
    """squash changes the aspect ratio, crop cuts the centre."""
    evaluated_at_once: int = 8
    """Evaluation episodes at a time, each in an environment of its own."""

    def __post_init__(self) -> None:
        _at_least(1, frame_skip=self.frame_skip, evaluated_at_once=self.evaluated_at_once)
        _at_least(2, action_count=self.action_count)
        _at_least(0, action_seed=self.action_seed)


@dataclass
class RemoteConfig:
    """Environments in Ray actors, on any node of the cluster: those of training, and as many or fewer actors with evaluation's."""

    actors: int = 0
    """Actors that share the environments (n_envs) and step theirs at the same time; 0: all in the run's own process, in turn."""
    encode: Literal["learner", "worker"] = "learner"
    """Where frames become latents. learner: with the bits of environments that are not remote; worker: on the actors' CPUs, so that
    latents travel in place of pictures, with other last bits."""
    replacements: int = 20
    """Actors that may die and be replaced before a run gives up."""
    backoff_seconds: float = 1.0
    """Wait before an actor is replaced that died before it answered, doubled each time."""
    timeout_seconds: float = 1800.0
    """An actor that does not answer for so long counts as dead. Minecraft resets take minutes, one after another where games start."""

    def __post_init__(self) -> None:
        _at_least(0, actors=self.actors, replacements=self.replacements, backoff_seconds=self.backoff_seconds)
        _at_least(1, timeout_seconds=self.timeout_seconds)


@dataclass
class RayConfig:
    """Where runs are done, and what each asks of Ray for itself; its environment actors ask beside it."""

    address: str | None = None
    """None: a Ray of this machine for the time of the command; auto: the cluster that this machine belongs to; HOST:PORT."""
    cpus: float = 1.0
    """CPUs a run asks for."""
    gpus: float | None = None
    """GPUs a run asks for, a fraction too; None: an equal share of one where the device is cuda, else none."""
    retries: int = 3
    """Times that a run is started again whose worker or node died."""

    def __post_init__(self) -> None:
        _at_least(0.01, cpus=self.cpus)
        _at_least(0, retries=self.retries, **({} if self.gpus is None else {"gpus": self.gpus}))
        if self.gpus is not None and self.gpus > 1 and self.gpus != int(self.gpus):
            raise UserError(f"'gpus' must be a part of one or a whole number, got {self.gpus:g}")


@dataclass
class EvaluationConfig:
    """Episodes on worlds that training never sees; the same ones for every run and row."""

    every: int = 10_000
    """Training steps between two points of the learning curve."""
    episodes: int = 8
    """Episodes a point of the learning curve."""
    final_episodes: int = 24
    """Episodes after the last step; their mean return is the run's score."""
    deterministic: bool = False
    """Take the likeliest action instead of sampling, which is what PPO trains. DQN and QR-DQN sample with their last epsilon."""

    def __post_init__(self) -> None:
        _at_least(1, every=self.every, episodes=self.episodes, final_episodes=self.final_episodes)


@dataclass(kw_only=True)
class TrainingConfig:
    """What every run of a comparison shares."""

    environment: EnvironmentConfig
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    algorithm: Learner = field(default_factory=PPOSettings)
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    steps: int = 100_000
    """Agent steps of training, over all parallel environments; only says when to stop."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where frames are encoded and picture policies run."""
    policy_device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy runs; auto: on pixels with the frames, on latents on the CPU, where small networks are faster."""
    threads: int = 1
    """Torch threads a run; other numbers give other last bits."""
    checkpoint_every: int = 10_000
    """Agent steps between two checkpoints at most."""
    checkpoint_minutes: float = 10.0
    """Minutes between two checkpoints at most."""
    store: Path | None = None
    """Frames for the controls untrained and pca, when the store that the encoder names is gone."""

    def __post_init__(self) -> None:
        _at_least(1, steps=self.steps, threads=self.threads, checkpoint_every=self.checkpoint_every)
        _at_least(0, checkpoint_minutes=self.checkpoint_minutes)
        if self.remote.actors > self.algorithm.n_envs:
            raise UserError(f"'remote.actors' must be at most algorithm.n_envs = {self.algorithm.n_envs}, got {self.remote.actors}")


@dataclass(kw_only=True)
class AgentRun(TrainingConfig):
    """One agent: trained on the latents of `encoder`, or on those of a control that mirrors it, or on pixels."""

    run: Path
    """The run's folder; running the same command again resumes."""
    encoder: Path | None = None
    """An encoder's folder."""
    latents: str | None = None
    """A reading of the encoder, such as `pooled`; default: the encoder's own."""
    control: Control | None = None
    """pixels, or latents of the encoder's architecture untrained, or as many principal components."""
    seed: int = 0

    def check(self) -> None:
        """Raise `UserError` where the encoder and the control do not go together, or the seed is none."""
        if not 0 <= self.seed < 2**32:
            raise UserError(f"'seed' must be from 0 to 2^32 - 1, got {self.seed}")
        if self.control == "pixels" and self.encoder is not None:
            raise UserError("--control pixels uses no encoder; leave out --encoder")
        if self.control != "pixels" and self.encoder is None:
            what = f"--control {self.control} needs the encoder it mirrors" if self.control else "no encoder given"
            raise UserError(f"{what}: add --encoder FOLDER, or train on --control pixels")
        if self.control == "pixels" and self.latents is not None:
            raise UserError(f"--control pixels has no latents; leave out --latents {self.latents}")


@dataclass(kw_only=True)
class ComparisonConfig(TrainingConfig):
    """Encoders and controls x seeds, on one task with one algorithm."""

    run: Path
    """The comparison's folder; running the same command again, or one with more, runs only what is missing."""
    encoders: tuple[Path, ...] = ()
    """Encoder folders, one row each."""
    controls: tuple[Control, ...] = ()
    """Rows beside the encoders; untrained and pca mirror the first encoder."""
    seeds: int = 5
    """Agents a row, with seeds 0, 1, ..."""
    workers: int | None = None
    """Runs at the same time; default: one a CPU core on this machine, as many as fit on a cluster."""

    def check(self) -> None:
        """Raise `UserError` where there is nothing to compare, or nothing for a control to mirror."""
        _at_least(1, seeds=self.seeds, **({} if self.workers is None else {"workers": self.workers}))
        if not self.encoders and not self.controls:
            raise UserError("nothing to compare: add --encoders FOLDER ... or --controls pixels")
        mirrors = [control for control in self.controls if control != "pixels"]
        if mirrors and not self.encoders:
            raise UserError(f"control '{mirrors[0]}' mirrors an encoder: add --encoders FOLDER")


@dataclass(frozen=True)
class PartConfig:
    """What a command asks for on one task with one algorithm."""

    task: str
    """Name of the environment preset."""
    agent: str
    """Name of the agent preset."""
    shared: ComparisonConfig
    """What its rows share; the algorithm's settings are those on latents."""
    pixels: Learner
    """The algorithm's settings on pixels."""


Config = TypeVar("Config", AgentRun, ComparisonConfig)


def read_command(schema: type[Config], description: str, argv: Sequence[str], *, pixels: bool | None = None) -> Config:
    """Parse `ENVIRONMENT_PRESET --agent AGENT_PRESET [--env.option value ...] [--field value ...]`.

    An agent preset names its algorithm (`kind`) and holds its settings, under `pixels:` those that differ on pixels, and under
    `environment:` what it needs of the environment. `pixels` says which hold (None: as `--control pixels` stands on the command
    line). What an environment preset says under `algorithm:` overrides them.
    """
    argv, options = take_env_options(argv)
    argv, agents = _take_words(argv, "--agent")
    if len(agents) > 1:
        raise UserError(f"one --agent trains here, got {', '.join(agents)}; compare_encoders.py takes several")
    on_pixels = _option(argv, "--control") == "pixels" if pixels is None else pixels

    def with_agent(values: dict[str, Any]) -> type[Config]:
        own, named = values.get("algorithm", {}), _own_agent(values)
        values.pop("agent", None)
        add_options(values, options)
        if not isinstance(own, dict):
            raise UserError(f"'algorithm' must hold a mapping of keys to values, got {own!r}")
        settings = agent_settings(agents[0] if agents else named, on_pixels)
        needed = settings.pop("environment", {})
        if needed and isinstance(values.get("environment"), dict):
            values["environment"] = {**values["environment"], **needed}
        values["algorithm"] = {**settings, **own}
        return _with_settings_of(settings_class(values["algorithm"]), schema)

    parsed = command_line("env", with_agent, description, argv)
    config = schema(**{one.name: getattr(parsed, one.name) for one in fields(schema)})
    config.check()
    return config


def read_grid(description: str, argv: Sequence[str]) -> list[PartConfig]:
    """Parse `ENVIRONMENT_PRESET ... --agent AGENT_PRESET ... [--field value ...]`: every environment with every agent named.

    Where no agent is named, each environment has its preset's own. Options hold for all parts, the rest of a preset for its own.
    Raises `UserError` where two presets have one name, or where what the parts must share is not the same in all presets.
    """
    count = next((position for position, word in enumerate(argv) if word.startswith("-")), len(argv))
    rest, agents = _take_words(argv[count:], "--agent")
    tasks = list(dict.fromkeys(argv[:count]))
    if not tasks:
        # says what there is, or helps
        read_command(ComparisonConfig, description, argv)
    parts = []
    for task in tasks:
        for agent in dict.fromkeys(agents or [_own_agent(read_preset("env", task))]):
            words = [task, "--agent", agent, *rest]
            try:
                shared, pixels = (read_command(ComparisonConfig, description, words, pixels=pixels) for pixels in (False, True))
            except UserError as error:
                raise UserError(f"{task} with {agent}: {error}") from error
            parts.append(PartConfig(_preset_name(task), _preset_name(agent), shared, pixels.algorithm))
    _refuse_clashes(parts)
    return parts


def agent_settings(preset: str, pixels: bool) -> dict[str, Any]:
    """Return the algorithm's settings of an agent preset, for pixels or for latents; and `environment`, where the preset has it."""
    values = read_preset("agent", preset)
    for part in ("pixels", "environment"):
        if not isinstance(values.get(part, {}), dict):
            raise UserError(f"agent preset '{preset}': '{part}' must hold a mapping of keys to values")
    special = values.pop("pixels", {})
    return {**values, **(special if pixels else {})}


def environment_preset(preset: str, options: Mapping[str, Scalar] | None = None) -> EnvironmentConfig:
    """Return the environment of an environment preset, with other options where they are given."""
    values = read_preset("env", preset)
    add_options(values, options or {})
    return build(EnvironmentConfig, values.get("environment"), "environment")


def add_options(values: dict[str, Any], options: Mapping[str, Scalar]) -> None:
    """Put options of the environment over those of an environment preset's mapping."""
    environment = values.get("environment")
    if options and isinstance(environment, dict) and isinstance(environment.get("options", {}), dict):
        values["environment"] = {**environment, "options": {**environment.get("options", {}), **options}}


def plain(config: Any) -> dict[str, Any]:
    """Return settings as mappings, lists and scalars."""
    return to_dict(config)


def completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings with defaults for what was not there yet when it was started."""
    environment = build(EnvironmentConfig, settings["environment"], "environment")
    return {**settings, "environment": plain(environment), "algorithm": plain(build_algorithm(settings["algorithm"]))}


def _with_settings_of(algorithm: type[Learner], schema: type) -> type:
    """Return `schema` with the one algorithm's settings, so that options and errors are of that algorithm alone."""
    own = [("algorithm", algorithm, field(default_factory=algorithm))]
    return make_dataclass(schema.__name__, own, bases=(schema,), kw_only=True, namespace={"__doc__": schema.__doc__})


def _at_least(least: float, **values: float) -> None:
    for name, value in values.items():
        if value < least:
            raise UserError(f"'{name}' must be at least {least}, got {value}")


def _option(argv: list[str], name: str) -> str | None:
    for position, word in enumerate(argv):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and position + 1 < len(argv):
            return argv[position + 1]
    return None


def _take_words(argv: Sequence[str], name: str) -> tuple[list[str], list[str]]:
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


def _own_agent(values: dict[str, Any]) -> str:
    named = values.get("agent", "ppo")
    if not isinstance(named, str):
        raise UserError(f"'agent' must name a preset of configs/agent/, got {named!r}")
    return named


def _preset_name(preset: str) -> str:
    return Path(preset).stem if preset.endswith((".yaml", ".yml")) else preset


def _refuse_clashes(parts: Sequence[PartConfig]) -> None:
    names = [(part.task, part.agent) for part in parts]
    for task, agent in names:
        if names.count((task, agent)) > 1:
            raise UserError(f"two presets are called '{task}' with '{agent}': their runs would share a folder; rename one of the files")
    for key in _ONE_FOR_ALL:
        if any(getattr(part.shared, key) != getattr(parts[0].shared, key) for part in parts):
            raise UserError(f"the environment presets do not agree on '{key}', which is one for all; say it on the command line")
