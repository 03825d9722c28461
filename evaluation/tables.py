"""What `evaluate_encoder.py` prints of `evaluation.json`."""

from typing import Any

from rich.console import Console
from rich.table import Table


def show(report: dict[str, Any]) -> None:
    """Print the report as tables and its verdicts."""
    table = _table(f"{report['frames']:,} frames of split '{report['split']}'", "", "PSNR (pooled)", "SSIM")
    for row in ("reconstruction", "mean_training_frame"):
        table.add_row(row.replace("_", " "), f"{report[row]['psnr_db']:.2f} dB", f"{report[row]['ssim']:.3f}")
    Console().print(table)
    if "bits_per_dim" in report:
        _show_likelihood(report)
    if "latent_groups" in report:
        _show_groups(report["latent_groups"])
    for name in ("fid", "open_loop"):
        if name in report:
            _SHOWN[name](report[name])
    print(report["verdict"])
    for name in ("latent_groups", "memorisation"):
        if name in report:
            print(report[name]["verdict"])


def _show_likelihood(report: dict[str, Any]) -> None:
    coded, tighter = report["bits_per_dim"], report.get("importance_weighted")
    table = _table("Bits a pixel and channel, on held-out frames", "", "bits", "frames")
    frames = f"{report['frames']:,}"
    table.add_row("the model, by its ELBO", f"{coded['elbo']:.3f}", frames)
    table.add_row("histogram of the training frames, a channel", f"{coded['histogram_of_training_frames']:.3f}", frames)
    if tighter is not None:
        table.add_row("the model, by its ELBO", f"{tighter['elbo_bits_per_dim']:.3f}", f"{tighter['frames']:,}, spread")
        bound = f"the model, {tighter['samples']} importance-weighted samples"
        table.add_row(bound, f"{tighter['importance_weighted_bits_per_dim']:.3f}", f"the same {tighter['frames']:,}")
    Console().print(table)


def _show_groups(report: dict[str, Any]) -> None:
    table = _table("Groups of latents, coarsest first", "group", "scale", "size", "KL, nats a frame", "bits", "active channels")
    for number, group in enumerate(report["groups"], 1):
        size, active = "x".join(map(str, group["size"])), f"{group['active_channels']} of {group['channels']}"
        table.add_row(str(number), str(group["scale"]), size, f"{group['kl']:.2f}", f"{group['bits']:.2f}", active)
    Console().print(table)


def _show_fid(report: dict[str, Any]) -> None:
    table = _table(f"FID to {report['images']:,} training frames, as many of each", "", "FID")
    for name, distance in report["distances"].items():
        table.add_row(name, f"{distance:.2f}")
    Console().print(table)


def _show_open_loop(report: dict[str, Any]) -> None:
    """Print how good predictions are beside those that need no model."""
    for name, group in report["groups"].items():
        parts = list(group["rows"]["model"]["psnr_db"])
        title = f"Open loop after {report['context']} frames: {group['clips']} {name}"
        table = _table(title, "", *(f"PSNR, {part}" for part in parts), "SSIM, all")
        for row, scores in group["rows"].items():
            table.add_row(row, *(f"{scores['psnr_db'][part]:.2f} dB" for part in parts), f"{scores['ssim']['all']:.3f}")
        Console().print(table)


_SHOWN = {"fid": _show_fid, "open_loop": _show_open_loop}


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
