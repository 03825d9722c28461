"""An encoder judged: what is opened, which judges apply, and `evaluation.json`, written anew whenever one of them is done."""

import json
from pathlib import Path
from typing import Any

import torch

import frames
from encoders import EncoderArtifact, StoreReference, load_encoder
from encoders.artifact import check_meaning, check_source
from encoders.training.devices import available_threads, choose_device
from evaluation.evaluation import Evaluation
from evaluation.judge import Judge, Numbers, option_name
from evaluation.options import Options
from foundation.documents import read
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.progress import say, tell_result
from frames.looking.next_steps import agent_command

REPORT_FILE = "evaluation.json"
_NO_VERDICT = "No judge of these gives a verdict: look at the pictures; a store with rewards, actions or state lets probes say more."


def judge_encoder(options: Options, judges: dict[str, Judge], settings: dict[str, Any]) -> None:
    """Ask those of `judges` that apply, each with its options of `settings`; raise `UserError` where one that was named does not."""
    torch.set_num_threads(options.threads or available_threads())
    out = _opened(options)
    artifact, store = out.artifact, out.store
    applying, left_out = applicable(judges, settings, artifact, store)
    reasons = ", ".join(f"{name} ({reason})" for name, reason in left_out.items())
    if left_out and options.judges:
        raise UserError("; ".join(f"--judges {name}: {reason}" for name, reason in left_out.items()))
    if not applying:
        raise UserError(f"no judge applies: {reasons}")
    for name, judge in applying.items():
        judge.check(artifact, store, settings[name], out)
    if artifact.info.card is not None:
        say(f"{options.run}: learned from {artifact.info.card}")
    if left_out:
        say(f"left out: {reasons}")
    artifact.model.to(out.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    path = options.run / REPORT_FILE
    report = kept_numbers(path, _header(out))
    for name, judge in applying.items():
        numbers = judge.judge(artifact, store, settings[name], out)
        report.pop(name, None)
        report |= {name: numbers} if numbers else {}
        write_atomically(path, json.dumps(report, indent=2) + "\n")
    tell_result()
    for verdict in out.verdicts or [_NO_VERDICT]:
        for line in verdict.splitlines():
            tell_result(line)
    pictures = f", and in {out.pictures}: {', '.join(file.name for file in out.files)}" if out.files else ""
    say(f"wrote {path}{pictures}")
    say(f"next: {agent_command(store, str(options.run)) or f'python train_agent.py voxel_treechop --encoder {options.run} --run RUN2'}")


def applicable(
    judges: dict[str, Judge], settings: dict[str, Any], artifact: EncoderArtifact, store: frames.FrameStore
) -> tuple[dict[str, Judge], dict[str, str]]:
    """Return the judges that apply, and why the others do not."""
    left_out = {}
    for name, judge in judges.items():
        lacking = [option_name(name, field) for field in judge.needs if getattr(settings[name], field) is None]
        reason = judge.applies(artifact.model, store) or (f"give {' and '.join(lacking)}" if lacking else None)
        if reason is not None:
            left_out[name] = reason
    return {name: judge for name, judge in judges.items() if name not in left_out}, left_out


def kept_numbers(path: Path, header: dict[str, Any]) -> Numbers:
    """Return `header`, and what other judges have found before if it was of the same encoder, store and split."""
    try:
        before = read(path)
    except UserError:
        return dict(header)
    # a report of before it told the identity is compared by the frames
    same = isinstance(before, dict) and all(
        before.get(name, value if name == "identity" else None) == value for name, value in header.items() if name != "store"
    )
    return {**before, **header} if same else dict(header)


def training_store(artifact: EncoderArtifact, store: frames.FrameStore) -> frames.FrameStore:
    """Open the store that the encoder was trained on, if it is still there with the same content; else return `store`."""
    reference = artifact.info.store
    if _is_that(store, reference):
        return store
    try:
        trained_on = frames.FrameStore(reference.path)
        if _is_that(trained_on, reference):
            if reference.actions is not None:
                check_meaning(reference, artifact.model.action_size, trained_on, "the encoder")
            return trained_on
    except UserError:
        pass
    if not len(store.indices("train")):
        raise UserError(
            f"{reference.path}: the training store is gone or has changed, and {store.path} has no training frames to compare with; "
            "put the training store back, or name a store with a train split"
        )
    say(f"{reference.path}: the training store is gone or has changed; taking the mean training frame from {store.path} instead")
    return store


def _is_that(store: frames.FrameStore, reference: StoreReference) -> bool:
    """Say whether a store has what an encoder learned from; by its frames alone where no more was recorded."""
    return store.fingerprint == reference.fingerprint and reference.identity in (None, store.identity)


def _opened(options: Options) -> Evaluation:
    device = choose_device(options.device)
    artifact, store = load_encoder(options.run), frames.FrameStore(options.store)
    remedy = "name a store built like the one it was trained on"
    check_source(artifact.model, options.store, store.frame_shape, store.action_size, remedy)
    check_meaning(artifact.info.store, artifact.model.action_size, store, f"the encoder {options.run}")
    split = options.split if options.split != "auto" else "test" if len(store.indices("test")) else "val"
    training = training_store(artifact, store)
    return Evaluation(artifact, store, split, training, options.run / "pictures", device, options.limit)


def _header(out: Evaluation) -> dict[str, Any]:
    return {
        "split": out.split,
        "store": str(out.store.path),
        "fingerprint": out.store.fingerprint,
        "identity": out.store.identity,
        "baseline_store": str(out.training.path),
        "encoder": out.artifact.info.weights_sha256,
        "limit": out.limit,
    }
