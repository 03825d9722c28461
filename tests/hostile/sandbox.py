"""Good things of every kind that a command reads, small: what hostile inputs are made from."""

import os
import shutil
import stat
from pathlib import Path

import numpy as np

import frames
from encoders import StoreReference, prepare
from encoders.parts import make_on_top
from foundation.presets import CONFIGS
from tests.hostile.forking import Forks

SLOTS = {"slots": 3, "slot_size": 8, "encoder_channels": 8, "encoder_strides": [4, 2], "decoder": "big", "decoder_channels": 8}
ENCODERS = {
    "points": ("points", {"encoder": "8k4s4 16k3s2", "maps": 4}),
    "evidence": ("evidence", {"encoder": "8k4s4 16k3s2", "maps": 4}),
    "critic": ("critic", {}),
    "critic_vae": ("critic_vae", {"critic": "critic", "latent_dim": 8, "channels": [4, 8, 8, 16]}),
    "cwvae": ("cwvae_debug", {}),
    "nvae": ("nvae_debug", {}),
    "efficientmorl": ("efficientmorl_debug", {}),
    "slot_attention": ("slot_attention", SLOTS),
    "pca": ("pca", {"latent_dim": 4}),
}
_EPISODES = "--env.episode_ticks 16 --evaluation.every 64 --evaluation.episodes 1 --evaluation.final-episodes 1"
AGENT = f"debug --steps 64 --device cpu --threads 1 {_EPISODES}"
_HEADS = "--heads.value.weight 1 --heads.actions.weight 1"
TRAIN = f"debug --store store --steps 4 --device cpu --threads 1 --training.validation-frames 16 {_HEADS}"
COMPARE = f"{AGENT} --encoders encoder --controls pixels --seeds 1"
TUNE = f"{AGENT} --control pixels --space debug --trials 2"
_STEPS = {
    "make_frames.py build --source VoxelTreechop-v0 --frames 240 --episode-frames 40 --record state segmentation --store store": (0,),
    f"train_encoder.py {TRAIN} --run encoder": (0,),
    "evaluate_encoder.py encoder --store store --judges probes --probes.frames 100": (0,),
    f"train_agent.py {AGENT} --encoder encoder --run agent": (0,),
    f"compare_encoders.py {COMPARE} --run comparison": (0,),
    # no trial runs: a search that was stopped
    f"tune_agent.py {TUNE} --run search": (0, 1),
}


def build(folder: Path, forks: Forks) -> None:
    """Make everything in `folder`, by the commands where there is one."""
    folder.mkdir(parents=True)
    for kind in ("env", "agent", "search", "encoder", "demo"):
        name = "debug.yaml"
        shutil.copy(CONFIGS / kind / name, folder / f"{kind}.yaml")
    for command, expected in _STEPS.items():
        ran = forks.run(folder, command.split(), work=True)
        assert ran["status"] in expected, (command, ran)
    store = frames.FrameStore(folder / "store")
    seen = store.frames(np.arange(64))
    clips = store.windows(store.starts("train", 8)[:4], 8)
    reference = StoreReference("store", store.fingerprint, store.frames_per_second, store.meta["resize"])
    for name, (preset, values) in ENCODERS.items():
        # a critic-VAE stands on the critic made before it
        on_top = {key: str(folder / value) for key, value in values.items() if key == "critic"}
        model = make_on_top(preset, **values | on_top)
        prepare(model, clips if model.clip_length > 1 else seen, folder / name, store=reference)
    (folder / "notes").mkdir()
    (folder / "notes" / "notes.txt").write_text("mine")


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return what lies in a folder, by path: kind, time of the last change, and content."""
    found: dict[str, tuple[object, ...]] = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                found[str(path.relative_to(folder))] = ("folder",)
            elif stat.S_ISREG(status.st_mode):
                found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns, path.read_bytes())
            else:
                found[str(path.relative_to(folder))] = ("other", status.st_mode, os.readlink(path) if path.is_symlink() else "")
    return found
