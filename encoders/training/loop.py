"""The training loop of all encoders: rerunning it resumes, bit for bit on the CPU."""

import copy
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from encoders.artifact import (
    INFO_FILE,
    Ancestor,
    EncoderArtifact,
    StoreReference,
    drawn_rows,
    load_encoder,
    read_info,
    reading_statistics,
    save_encoder,
)
from encoders.encoder import Batch, Encoder, Generates, batch_norms
from encoders.heads.attached import heads_of, own_is_trained, preferred_reading, training_terms, wanted_labels
from encoders.heads.config import HeadsConfig
from encoders.registry import registered_name
from encoders.training.checks import check_batch, check_request
from encoders.training.config import TrainingConfig, learning_rate
from encoders.training.data import TrainingData
from encoders.training.devices import HERE, Placement, autocast, available_threads, choose_device, choose_precision
from encoders.training.diagnosis import remedy, what_is_not_finite
from encoders.training.memory import kept_memory
from encoders.training.metrics import MetricsLog
from encoders.training.pictures import ShownClips, reconstructions, spread_clips, write_pictures
from encoders.training.run_record import CONFIG_FILE, agree, recorded
from encoders.training.signals import stop_requests
from encoders.training.state import REMEDY, RESUME_FILE, TrainingState
from encoders.training.transfer import adopt
from encoders.training.validation import Validation, collapse_verdict, compared_term, match_statistics, to_batch, validate
from foundation.documents import fitting
from foundation.errors import UserError
from foundation.files import exclusive_lock
from foundation.folders import ENCODER, refuse_others
from foundation.pictures import write_png
from foundation.presets import build, to_dict
from foundation.progress import Advance, progress_bar, say

_SEED_STRIDE = 1_000_003
_RANK_STRIDE = 2**40
_ENOUGH = -1
"""What the first process says, where signals have their number, once a run is out of patience."""
_SKIPS_IN_A_ROW = 20
_SUSPICIOUS_SKIPS = 5
_MATCHING_FRAMES = 512
_SHOWN = ("loss", "kl", "beta")


def train(
    model: Encoder,
    data: TrainingData,
    folder: str | Path,
    config: TrainingConfig,
    *,
    steps: int,
    weights: str | Path | None = None,
    placement: Placement = HERE,
) -> EncoderArtifact:
    """Train `model` until `steps` optimizer steps are done in all, and write the best averaged weights as an artifact.

    With a run in `folder`, it goes on from its last checkpoint. A new run starts from the `weights` of another one's folder, if one is
    named. Where `placement` has several ranks, every process calls this with its own part of the batches; the first one validates and
    writes, all return the artifact.

    Raises `UserError` when the model refuses such batches, the run in `folder` was started with other settings, another process is at
    it or it has diverged, and `SystemExit` (128 + n) after saving when signal n asked to stop.
    """
    folder, ranks = Path(folder), placement.ranks
    refuse_others(folder, ENCODER)
    check_request(model, folder, steps, placement)
    device = choose_device(placement.device)
    placement = replace(placement, precision=choose_precision(placement.precision, device))
    check_batch(model, data.validation, config.batch_size // ranks.size)
    with exclusive_lock(folder, "training") if ranks.leads else nullcontext(), kept_memory(device):
        threads = placement.threads or recorded(folder, "threads") or max(1, available_threads() // ranks.size)
        settings: dict[str, Any] = {"encoder": registered_name(model), "steps": steps, "device": str(device), "threads": threads}
        ancestor = None if weights is None else _started_from(Path(weights), model, folder, data.store)
        settings |= _asked_for(
            compile=placement.compiled or None,
            precision=None if placement.precision == "auto" else placement.precision,
            workers=ranks.size if ranks.size > 1 else None,
            weights=None if ancestor is None else _asked_for(**to_dict(ancestor)),
            heads=None if (heads := heads_of(model)) is None else to_dict(heads.config),
        )
        settings |= {"model": to_dict(model.hyperparameters), "training": to_dict(config), "store": to_dict(data.store)}
        if ranks.leads:
            agree(folder, settings, defaults=_defaults(model))
        ranks.wait()
        torch.set_num_threads(threads)
        training = _Run(model, data, folder, config, placement, ancestor)
        if placement.compiled:
            model.compile_scan()
        if ranks.leads:
            artifact = training.until(steps)
            ranks.wait()
            return artifact
        training.follow(steps)
    ranks.wait()
    return load_encoder(folder)


def _asked_for(**settings: Any) -> dict[str, Any]:
    """Leave out what is None, as the runs of before there was the option do."""
    return {name: value for name, value in settings.items() if value is not None}


def _defaults(model: Encoder) -> dict[str, Any]:
    """Return what was meant by a run of before there was an option."""
    defaults = {"training": to_dict(TrainingConfig()), "model": to_dict(model.Hyperparameters())}
    return defaults | ({} if heads_of(model) is None else {"heads": to_dict(HeadsConfig())})


def _started_from(weights: Path, model: Encoder, folder: Path, store: StoreReference) -> Ancestor:
    """Return what to record of another run's weights; load them unless this run is past its start, where they are not read again."""
    if not (folder / RESUME_FILE).exists():
        return adopt(model, weights, store)
    before = recorded(folder, "weights")
    if before and before["run"] == str(weights):
        return build(Ancestor, before, f"{folder / CONFIG_FILE}: weights")
    return Ancestor(str(weights), 0)


class _Run:
    def __init__(
        self, model: Encoder, data: TrainingData, folder: Path, config: TrainingConfig, placement: Placement, ancestor: Ancestor | None
    ) -> None:
        self.data, self.folder, self.config, self.placement, self.ancestor = data, folder, config, placement, ancestor
        self.ranks, self.device = placement.ranks, choose_device(placement.device)
        self.state = TrainingState(model, config, self.device, self.ranks)
        self.position = 0
        if (folder / RESUME_FILE).exists():
            self.position, batches_state = self.state.load(folder)
            with fitting(f"{folder / RESUME_FILE}: batches", REMEDY):
                data.batches.load_state_dict(batches_state)
        self.validated: tuple[int, Validation] | None = None
        self.matching: np.ndarray | None = None
        self.skips_in_a_row = 0
        self.started = time.monotonic() - self.state.seconds

    def until(self, steps: int) -> EncoderArtifact:
        state = self.state
        if (state.step >= steps or state.is_out_of_patience()) and self._is_closed():
            more = "--training.patience" if state.step < steps else "--steps"
            say(f"{self.folder}: already trained for {state.step} steps; give more {more} to continue")
            return load_encoder(self.folder)
        if state.step:
            say(f"{self.folder}: resumed at step {state.step}")
            self._measure_best_as_now()
        self.log = MetricsLog(self.folder, state.step, self.position)
        try:
            with stop_requests() as stop, progress_bar("training", steps, done=state.step) as advance:
                number = self._had_enough()
                while state.step < steps and not number:
                    self._step_and_record(advance, last=state.step == steps - 1)
                    number = self.ranks.first_says(stop.number or self.placement.asked_to_stop() or self._had_enough())
                    if number > 0:
                        self._save_and_stop(number)
                if state.step < steps:
                    say(f"step {state.step}: {self.config.patience} validations without a better one: that was enough")
                self._save()
            return self._close()
        finally:
            self.log.close()

    def follow(self, steps: int) -> None:
        """Do the steps as a process that leaves validating, writing and speaking to the first one."""
        number = self._had_enough()
        while self.state.step < steps and not number:
            self._step()
            # the first one alone knows how its validations went
            number = self.ranks.first_says(0)
        if number > 0:
            raise SystemExit(128 + number)

    def _had_enough(self) -> int:
        return _ENOUGH if self.state.is_out_of_patience() else 0

    def _step_and_record(self, advance: Advance, last: bool) -> None:
        terms = self._step()
        state, config = self.state, self.config
        record: dict[str, float] = {}
        if state.step % config.log_every == 0:
            record = {f"train/{name}": float(value) for name, value in terms.items()}
            record["train/learning_rate"] = learning_rate(config, state.step - 1)
        due = state.step % config.validation_every == 0
        if due or last:
            found = self._validate()
            record |= {f"validation/{name}": value for name, value in found.metrics().items()}
            if due:
                state.consider(found.metrics())
        if record:
            state.seconds = time.monotonic() - self.started
            bookkeeping = {"skipped": state.skipped, "session": state.session, "seconds": state.seconds}
            self.log.write(state.step, record | bookkeeping)
        if state.step % config.checkpoint_every == 0 and self._is_healthy():
            self._checkpoint()
        advance(1, self._note(terms) if state.step % 10 == 0 else None)

    def _step(self) -> dict[str, Tensor]:
        state, config = self.state, self.config
        # noise is a function of seed and step, so that neither validation nor a resumption changes it
        torch.manual_seed((config.seed * _SEED_STRIDE + state.step + self.ranks.rank * _RANK_STRIDE) % 2**64)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.step)
        batch = to_batch(next(self.data.batches), self.device)
        state.remember()
        state.model.train()
        with autocast(self.device, self.placement.precision):
            terms = self._loss(batch)
        state.optimizer.zero_grad()
        terms["loss"].backward()
        terms = self.ranks.mean_terms({name: value.detach() for name, value in terms.items()}, self.device)
        terms["gradient_norm"] = self._gradient_norm()
        if bool(torch.isfinite(terms["loss"]) & torch.isfinite(terms["gradient_norm"])):
            self._update(terms["gradient_norm"])
            self.skips_in_a_row = 0
        else:
            self._skip(terms)
        state.step += 1
        state.average()
        return terms

    def _gradient_norm(self) -> Tensor:
        parameters = list(self.state.model.parameters())
        self.ranks.mean_gradients(parameters)
        return get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])

    def _update(self, norm: Tensor) -> None:
        if self.config.gradient_clip is not None:
            clip_grads_with_norm_(self.state.model.parameters(), self.config.gradient_clip, norm)
        self.state.optimizer.step()

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        try:
            return training_terms(self.state.model, batch, self.state.step)
        except ValueError as error:
            # what only training shows, such as a batch too small for batch normalisation
            raise UserError(f"{self.folder}: {error}; start again with other settings") from error

    def _skip(self, terms: dict[str, Tensor]) -> None:
        self.state.undo()
        self.state.skipped += 1
        self.skips_in_a_row += 1
        reason = what_is_not_finite(terms, self.state.model)
        if self.skips_in_a_row >= _SKIPS_IN_A_ROW:
            begin = self.state.step - _SKIPS_IN_A_ROW + 2
            raise UserError(self._diverged(f"steps {begin} to {self.state.step + 1} were all skipped: {reason}"))
        if self.skips_in_a_row == 1 and self.ranks.leads:
            say(f"step {self.state.step + 1} skipped: {reason}; if this happens often, try {self._remedy()}")

    def _diverged(self, what: str) -> str:
        """Say how to go on where training has failed: the checkpoint of a healthy step is kept."""
        saved = self.state.saved
        if saved is None:
            return f"{self.folder}: {what}; nothing was saved yet: remove the folder and start again with {self._remedy()}"
        return (
            f"{self.folder}: {what}; the checkpoint of step {saved} is kept: start another run from its weights "
            f"with --weights {self.folder} --run ANOTHER and {self._remedy()}"
        )

    def _remedy(self) -> str:
        return remedy(self.state.model, self.config)

    def _is_healthy(self) -> bool:
        return self.skips_in_a_row < _SUSPICIOUS_SKIPS and self.state.is_finite()

    def _save(self) -> None:
        """Write the checkpoint, or raise `UserError` where these weights are not worth keeping."""
        if not self._is_healthy():
            raise UserError(self._diverged(f"the weights of step {self.state.step} are not finite or its steps are skipped"))
        self._checkpoint()

    def _save_and_stop(self, number: int) -> None:
        self._save()
        say(f"{self.folder}: stopped and saved at step {self.state.step}; run the same command again to resume")
        raise SystemExit(128 + number)

    def _validate(self) -> Validation:
        state = self.state
        if self.validated is not None and self.validated[0] == state.step:
            return self.validated[1]
        self._match_statistics()
        found = validate(state.averaged, self.data.validation(), state.step, self.device)
        if not math.isfinite(found.terms[found.compared]):
            wrong = what_is_not_finite(found.terms, state.averaged)
            raise UserError(self._diverged(f"the validation after step {state.step} is not finite: {wrong}"))
        self.validated = (state.step, found)
        if own_is_trained(state.averaged) and isinstance(state.averaged, Generates):
            picture = reconstructions(state.averaged, spread_clips(self.data.validation()), self.device)
            write_png(self.folder / "pictures" / "reconstructions.png", picture)
            self.log.picture(state.step, "reconstructions", picture)
        units = [
            f"KL {one.kl:.1f} nats and {one.active} of {one.units} {state.averaged.unit_name} active in '{name}'"
            for name, one in found.activity.items()
        ]
        scores = [f"{name.removeprefix('heads_').replace('_', ' ')} {score:.3f}" for name, score in found.scores.items()]
        say(f"step {state.step}: {_said_of(found.terms)}{''.join(f', {part}' for part in units + scores)}")
        return found

    def _measure_best_as_now(self) -> None:
        """Validate the best weights of a checkpoint of before means were over what is known, with whose number no new one compares."""
        state, best = self.state, self.state.best
        if best is not None and not state.by_count and wanted_labels(state.model):
            model = copy.deepcopy(state.averaged)
            model.load_state_dict(best.weights)
            best.metrics = validate(model, self.data.validation(), best.step, self.device).metrics()
            say(f"{self.folder}: the best weights so far, of step {best.step}, were validated again: {_said_of(best.metrics)}")
        state.by_count = True

    def _match_statistics(self) -> None:
        """Give averaged weights with batch normalisation the statistics of a fixed sample of training frames."""
        # those of an encoder that the model stands on are frozen with it
        trained = [layer for layer in batch_norms(self.state.model) if layer.weight is None or layer.weight.requires_grad]
        if not self.config.ema_decay or not trained:
            return
        if self.matching is None:
            clips = self.data.sample().frames[:, : self.state.model.clip_length]
            self.matching = clips[drawn_rows(len(clips), _MATCHING_FRAMES // clips.shape[1], self.config.seed)]
        size = min(self.config.batch_size, len(self.matching))
        batches = [ShownClips(self.matching[at : at + size]) for at in range(0, len(self.matching) - size + 1, size)]
        match_statistics(self.state.averaged, batches, self.state.step, self.device)

    def _checkpoint(self) -> None:
        self.state.seconds = time.monotonic() - self.started
        self.state.save(self.folder, self.log.position, self.data.batches.state_dict())

    def _close(self) -> EncoderArtifact:
        """Judge the last weights too, and write the best as the artifact.

        What happens here is not in the checkpoint: a run that goes on later equals one that was never told to stop.
        """
        state = self.state
        if state.step % self.config.validation_every:
            state.consider(self._validate().metrics())
        assert state.best is not None, "every validation that returns is finite"
        best = state.averaged
        best.load_state_dict(state.best.weights)
        seen = self.data.sample()
        statistics = reading_statistics(best, seen.frames, seen.actions)
        clips = spread_clips(self.data.validation())
        write_pictures(self.folder / "pictures", best, clips, statistics, self.device)
        found = validate(best, self.data.validation(), state.best.step, self.device)
        best.prefer(preferred_reading(best, {name: torch.from_numpy(kl) for name, kl in found.kl_per_unit.items()}))
        metrics = {"step": float(state.best.step), **state.best.metrics}
        artifact = save_encoder(
            self.folder, best, statistics, self.data.store, steps=state.step, validation=metrics, started_from=self.ancestor
        )
        say(f"best at step {state.best.step}: {_said_of(metrics)}")
        if state.skipped:
            say(f"{state.skipped} of {state.step} steps were skipped because their loss or gradient was not finite")
        if found.activity:
            for line in collapse_verdict(best, found.activity).splitlines():
                say(line)
        if len(best.latents) > 1:
            say(f"agents get the latents '{best.reading(None)}' by default; it has {', '.join(best.latents)}")
        return artifact

    def _is_closed(self) -> bool:
        try:
            return (self.folder / INFO_FILE).exists() and read_info(self.folder).steps == self.state.step
        except UserError:
            return False

    def _note(self, terms: dict[str, Tensor]) -> str:
        parts = [f"{name} {float(terms[name]):.4g}" for name in _SHOWN if name in terms]
        if self.state.skipped:
            parts.append(f"skipped {self.state.skipped}")
        return "  ".join(parts)


def _said_of(terms: Mapping[str, float]) -> str:
    if compared_term(terms) == "objective":
        return f"validation objective {terms['objective']:.4f}"
    return f"validation negative ELBO {terms['negative_elbo']:.1f} nats"
