"""Clockwork VAE: a video model whose upper levels tick more slowly (Saxena, Ba and Hafner 2021, arXiv 2102.09532).

Level l ticks once in k^l frames. Each level is an RSSM cell: a GRU state h and a Gaussian z. What a level knows, [z; h], is the context of
the level below during its ticks; only level 0 is decoded into frames. With the defaults:

    frame 64x64x3 -> convolutions k4s2 32, 64, 128, 256 -> 1024 = e of level 0
    e of level l, a frame = MLP 1000, 1000, 1024 of e of level l-1; a tick gets the sum over its k^l frames
    tick     u = ReLU(W1 [z; c])   h = GRU(u, h)
    prior    v = ReLU(W2 h)        z ~ N(W3 v, softplus(W4 (v + 0.54)) + 1e-4)
    posterior w = ReLU(V2 ReLU(V1 [h; e]))   z ~ N(V3 w, softplus(V4 (w + 0.54)) + 1e-4)
    [z; h] of level 0 -> 1024 -> transposed convolutions k5s2 128, k5s2 64, k6s2 32, k6s2 3 -> frame

Shapes: B batch, T frames, N ticks of a level, C channels, H height, W width, L levels, S stochastic, D deterministic, M hidden units,
E embedding, K context, A action.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.cwvae.cell import Cell, Path, at_least_float32, gaussian_entropy, gaussian_kl, gaussian_nll
from encoders.cwvae.hyperparameters import ClockworkVAEHyperparameters
from encoders.cwvae.networks import frame_decoder, frame_encoder, initialise_as_keras, level_mlp
from encoders.cwvae.scan import can_compile
from encoders.encoder import Batch, Encoder, State

DECODED_AT_ONCE = 512


class ClockworkVAE(Encoder):
    """Encode a frame, given all frames before it, into means and recurrent states.

    The readings: `bottom` is [mean; h] of level 0, `levels` the same of all levels and `means` the means of all, lowest level first.
    The likelihood of a frame is N(decoded, frame_stddev^2) a pixel and channel, with its constant.
    """

    Hyperparameters = ClockworkVAEHyperparameters
    hyperparameters: ClockworkVAEHyperparameters

    def __init__(self, hyperparameters: ClockworkVAEHyperparameters | None = None) -> None:
        super().__init__()
        self.hyperparameters = h = (hyperparameters or ClockworkVAEHyperparameters()).checked()
        self.frame_shape, self.clip_length, self.action_size = h.frame_shape, h.clip_length, h.action_size
        output = h.stochastic + h.deterministic
        self.latents = {"bottom": (output,), "levels": (h.levels * output,), "means": (h.levels * h.stochastic,)}
        self.periods = [h.factor**level for level in range(h.levels)]
        self.use_obs = h.use_obs or (True,) * h.levels
        observed = max((level for level in range(h.levels) if self.use_obs[level]), default=-1)
        self.encoder = frame_encoder(h)
        self.dense = nn.ModuleList(level_mlp(h) for _ in range(observed))
        contexts = [output + h.action_size, *[output] * (h.levels - 1)]
        self.cells: Sequence[Cell] = nn.ModuleList(  # type: ignore[assignment]
            Cell(h, context, h.embedding if sees else None) for context, sees in zip(contexts, self.use_obs, strict=True)
        )
        self.decoder_input = nn.Sequential(nn.Linear(output, h.embedding), nn.Unflatten(1, (h.embedding, 1, 1)))
        self.decoder = frame_decoder(h)
        self.compiled = False
        self.apply(initialise_as_keras)

    def loss(self, batch: Batch, step: int, noise: Sequence[Tensor | None] | None = None) -> dict[str, Tensor]:
        """Return nats a frame; `noise`, one standard normal (B, N, S) a level, stands in for what would be drawn.

        `kl` and `kl_0` ... are the bare divergences; `loss` weighs them by beta, free nats and balance. Raises `ValueError` where
        the model takes actions and the batch has none.
        """
        h, frames = self.hyperparameters, batch.frames
        count, length = frames.shape[:2]
        if h.action_size and batch.actions is None:
            raise ValueError(f"the model takes actions of length {h.action_size}, and these frames have none; set action_size to 0")
        paths = self.unroll(self.embed(frames), (count, length), noise or self.draw_noise(count, length), batch.actions)
        decoded_NCHW = self._decoded(paths[0].output.flatten(0, 1))
        nll = gaussian_nll(decoded_NCHW, frames.flatten(0, 1), h.frame_stddev) / (count * length)
        kls = [gaussian_kl(path.posterior, path.prior).sum() / (count * length) for path in paths]
        betas = h.beta if isinstance(h.beta, tuple) else (h.beta,) * h.levels
        weighted = sum(beta * self._kl_cost(path, length) for beta, path in zip(betas, paths, strict=True))
        kl = torch.stack(kls).sum().detach()
        terms = {"loss": nll + weighted, "nll": nll.detach(), "kl": kl, "negative_elbo": nll.detach() + kl}
        terms["bits_per_dim"] = (terms["negative_elbo"] / math.prod(h.frame_shape) + math.log(255)) / math.log(2)
        for level, path in enumerate(paths):
            terms[f"kl_{level}"] = kls[level].detach()
            terms[f"entropy_prior_{level}"] = gaussian_entropy(path.prior.stddev.detach()).sum() / (count * length)
            terms[f"entropy_posterior_{level}"] = gaussian_entropy(path.posterior.stddev.detach()).sum() / (count * length)
        return terms

    def initial_state(self, batch_size: int) -> State:
        """Return zeros: the frame's place in the top level's tick, every level's z and h, and the frames of its tick summed up.

        The filter `partial` also keeps z and h from before the tick.
        """
        h, like = self.hyperparameters, next(self.parameters())
        z, recurrent = (like.new_zeros(batch_size, h.levels, size) for size in (h.stochastic, h.deterministic))
        total = like.new_zeros(batch_size, h.levels, h.embedding)
        state = {"clock": torch.zeros(batch_size, dtype=torch.int64, device=like.device), "z": z, "h": recurrent, "total": total}
        return state | {"z_before": z.clone(), "h_before": recurrent.clone()} if h.filter == "partial" else state

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        """Filter one frame (B, C, H, W); z is the mean throughout, as a reading and as what the next tick starts from.

        In training, upper levels see all frames of a tick at once, later ones too. One frame at a time, a level above the lowest

        - `delayed`: ticks by its prior at the first frame, and takes on its posterior at the tick's last frame, before the levels
          below tick; what they did during the tick is not done again;
        - `partial`: ticks anew at every frame from where it stood before, and its posterior sees the sum of the tick's frames so far;
        - `bottom`: follows its prior.

        Rows may stand at different places in their ticks. `action` (B, A) led to the frame; None stands for zeros.
        """
        reading, clock = self.reading(latents), state["clock"]
        embedded = self.embed(frames, self._informed_levels())
        rows = {name: list(tensor.unbind(1)) for name, tensor in state.items() if name != "clock"}
        context_BK = frames.new_zeros(len(frames), sum(self.latents["bottom"]))
        for level in reversed(range(self.hyperparameters.levels)):
            starts, ends = (((clock + ahead) % self.periods[level] == 0)[:, None] for ahead in (0, 1))
            memory = {name: levels[level] for name, levels in rows.items()}
            if level == 0:
                context_BK = self._with_actions(context_BK, action)
            memory = self._filter_frame(level, memory, context_BK, embedded[level], starts, ends)
            for name, tensor in memory.items():
                rows[name][level] = tensor
            context_BK = torch.cat([memory["z"], memory["h"]], -1)
        following = {name: torch.stack(levels, 1) for name, levels in rows.items()}
        following["clock"] = (clock + 1) % self.periods[-1]
        return _read(rows["z"], rows["h"], reading), following

    def encode_clip(self, frames: Tensor, actions: Tensor | None = None, latents: str | None = None) -> Tensor:
        """Return what `encode` gives for frames (B, T, C, H, W) one by one from the initial state: (B, T, *shape)."""
        reading = self.reading(latents)
        return self.clip_readings(frames, actions)[reading]

    def clip_readings(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        count, length = frames.shape[:2]
        embedded = self.embed(frames, self._informed_levels())
        context_BTK = frames.new_zeros(count, length, sum(self.latents["bottom"]))
        seen: list[tuple[Tensor, Tensor]] = []
        for level in reversed(range(self.hyperparameters.levels)):
            if level == 0:
                context_BTK = self._with_actions(context_BTK, actions)
            follow = self._filter_partial if self.hyperparameters.filter == "partial" else self._filter_delayed
            z_BTS, h_BTD = follow(level, context_BTK, embedded[level])
            seen.insert(0, (z_BTS, h_BTD))
            context_BTK = torch.cat([z_BTS, h_BTD], -1)
        return {name: _read([z for z, _ in seen], [h for _, h in seen], name) for name in self.latents}

    def open_loop(
        self,
        frames: Tensor,
        context: int,
        horizon: int,
        num_samples: int = 1,
        use_obs: Sequence[bool] | None = None,
        generator: torch.Generator | None = None,
        actions: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Predict `horizon` frames after the first `context` of `frames` (B, T, C, H, W), T >= context; yield one sample at a time.

        A sample is (B, context + horizon, C, H, W) in [0, 1]: drawn from the posteriors where frames are given, from the priors after,
        and decoded. `use_obs` tells which levels see the context (None: as in training); `actions` (B, context + horizon, A). Raises
        `ValueError` for a context that cuts a tick of the top level, or is longer than the frames, and for a wrong `use_obs`.
        """
        used = self._checked_use_obs(use_obs)
        if context % self.periods[-1] or not 0 <= context <= frames.shape[1] or horizon < 0:
            raise ValueError(
                f"a context of {context} frames (open_loop_ctx) must be divisible by factor^(levels-1) = {self.periods[-1]} "
                f"and no longer than the clips ({frames.shape[1]} frames)"
            )
        if actions is not None and actions.shape[1] < context + horizon:
            raise ValueError(f"{context + horizon} frames need as many actions, got {actions.shape[1]}")
        trimmed = None if actions is None else actions[:, : context + horizon]
        return self._open_loop(frames[:, :context], context + horizon, num_samples, used, generator, trimmed)

    def kl_per_unit(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        """Return the KL of every unit, summed over ticks, in nats a frame: (S,) of level 0 as `bottom`, (L * S,) of all as `means`."""
        count, length = frames.shape[:2]
        paths = self.unroll(self.embed(frames), (count, length), self.draw_noise(count, length), actions)
        kls = [gaussian_kl(path.posterior, path.prior).sum((0, 1)) / (count * length) for path in paths]
        return {"bottom": kls[0], "means": torch.cat(kls)}

    def reconstruct(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """Decode the posteriors' means, given whole clips (B, T, C, H, W) as in training."""
        count, length = frames.shape[:2]
        return self._frames(self.unroll(self.embed(frames), (count, length), None, actions)[0].output)

    def sample(self, count: int) -> Tensor:
        height, width, channels = self.frame_shape
        nothing = next(self.parameters()).new_zeros(count, 0, channels, height, width)
        return next(self.open_loop(nothing, 0, self.clip_length))

    def decode(self, latents: Tensor) -> Tensor:
        """Turn [mean; h] of level 0 (B, S + D) into frames (B, C, H, W) in [0, 1]."""
        return self._decoded(latents).clamp(0, 1)

    def compile_scan(self) -> bool:
        """Have torch.compile fuse the recurrence's ticks from now on; where it cannot, print a line, stay eager and return False.

        The numbers differ by rounding only. The first ticks of every new batch size take seconds to compile.
        """
        self.compiled = can_compile(next(self.parameters()).device)
        return self.compiled

    def embed(self, frames: Tensor, use_obs: Sequence[bool] | None = None) -> list[Tensor | None]:
        """Return the embeddings (..., E) of frames (..., C, H, W) for the levels of `use_obs` (as in training), None for the others."""
        use_obs = use_obs or self.use_obs
        embedded: list[Tensor | None] = []
        e = self.encoder(frames.flatten(0, -4))
        for level, sees in enumerate(use_obs):
            if level and any(use_obs[level:]):
                e = self.dense[level - 1](e)
            embedded.append(at_least_float32(e).view(*frames.shape[:-3], e.shape[-1]) if sees else None)
        return embedded

    def unroll(
        self,
        embedded: Sequence[Tensor | None],
        shape: tuple[int, int],
        noise: Sequence[Tensor | None] | None,
        actions: Tensor | None = None,
    ) -> list[Path]:
        """Follow all levels over `shape` = (B, T) frames, top down: by posteriors where there are embeddings (B, T', E), by priors after.

        `noise` (B, N, S) a level; without it, z is the mean. Where T' < T, T' must be whole ticks of the top level.
        """
        (count, length), factor = shape, self.hyperparameters.factor
        context_BNK = next(self.parameters()).new_zeros(count, -(-length // (factor * self.periods[-1])), sum(self.latents["bottom"]))
        paths: list[Path] = []
        for level in reversed(range(self.hyperparameters.levels)):
            ticks = -(-length // self.periods[level])
            drive_NBM = self.cells[level].drive(context_BNK, factor, ticks, self._checked_actions(actions) if level == 0 else None)
            evidence_BNE = block_sums(embedded[level], self.periods[level])
            paths.insert(0, self.cells[level].follow(drive_NBM, evidence_BNE, noise[level] if noise else None, self.compiled))
            context_BNK = paths[0].output
        return paths

    def draw_noise(self, count: int, length: int, generator: torch.Generator | None = None) -> list[Tensor | None]:
        """Draw the standard normals (B, N, S) of every level's ticks in `length` frames; None a level where the model draws nothing."""
        h, like = self.hyperparameters, next(self.parameters())
        if h.mean_only:
            return [None] * h.levels
        shapes = [(count, -(-length // period), h.stochastic) for period in self.periods]
        return [torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype) for shape in shapes]

    @torch.no_grad()
    def _open_loop(
        self,
        frames: Tensor,
        length: int,
        num_samples: int,
        use_obs: Sequence[bool],
        generator: torch.Generator | None,
        actions: Tensor | None,
    ) -> Iterator[Tensor]:
        embedded, count = self.embed(frames, use_obs), len(frames)
        for _ in range(num_samples):
            noise = self.draw_noise(count, length, generator)
            yield self._frames(self.unroll(embedded, (count, length), noise, actions)[0].output)

    def _filter_frame(
        self, level: int, memory: dict[str, Tensor], context_BK: Tensor, embedded_BE: Tensor | None, starts_B1: Tensor, ends_B1: Tensor
    ) -> dict[str, Tensor]:
        """Return a level's memory after one more frame; `embedded` is None where the level follows its prior."""
        cell, memory = self.cells[level], dict(memory)
        ticks_B1, learns_B1 = starts_B1, ends_B1
        before = (memory["z"], memory["h"])
        if self.hyperparameters.filter == "partial":
            ticks_B1 = learns_B1 = torch.ones_like(starts_B1)
            before = (torch.where(starts_B1, memory["z"], memory["z_before"]), torch.where(starts_B1, memory["h"], memory["h_before"]))
            memory["z_before"], memory["h_before"] = before
        if bool(ticks_B1.any()):
            h_BD, mean_BS = cell.tick(*before, context_BK)
            memory["h"], memory["z"] = torch.where(ticks_B1, h_BD, memory["h"]), torch.where(ticks_B1, mean_BS, memory["z"])
        if embedded_BE is None:
            return memory
        memory["total"] = torch.where(starts_B1, 0, memory["total"]) + embedded_BE
        if bool(learns_B1.any()):
            memory["z"] = torch.where(learns_B1, cell.posterior(memory["h"], memory["total"]).mean, memory["z"])
        return memory

    def _filter_delayed(self, level: int, context_BTK: Tensor, embedded_BTE: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return z (B, T, S) and h (B, T, D) after every frame, with the posterior at a tick's last frame only."""
        period, length = self.periods[level], context_BTK.shape[1]
        at_start_BNK = context_BTK[:, ::period]
        evidence_BNE = block_sums(embedded_BTE, period)
        path = self.cells[level].follow(self.cells[level].drive(at_start_BNK, 1, at_start_BNK.shape[1]), evidence_BNE, None, self.compiled)
        prior_BTS, mean_BTS, h_BTD = (x.repeat_interleave(period, 1)[:, :length] for x in (path.prior.mean, path.posterior.mean, path.h))
        ends_T1 = (torch.arange(1, length + 1, device=h_BTD.device) % period == 0)[:, None]
        return torch.where(ends_T1, mean_BTS, prior_BTS), h_BTD

    def _filter_partial(self, level: int, context_BTK: Tensor, embedded_BTE: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return z (B, T, S) and h (B, T, D) after every frame, each tick done anew at every frame.

        What a tick starts from is what the tick before came to at its last frame: that chain first, then all frames at once.
        """
        cell, period, length = self.cells[level], self.periods[level], context_BTK.shape[1]
        last_N = torch.arange(period - 1, length + period - 1, period, device=context_BTK.device).clamp(max=length - 1)
        evidence_BNE = block_sums(embedded_BTE, period)
        path = cell.follow(cell.drive(context_BTK[:, last_N], 1, len(last_N)), evidence_BNE, None, self.compiled)
        z, h = (F.pad(x, (0, 0, 1, 0)).repeat_interleave(period, 1)[:, :length].flatten(0, 1) for x in (path.z, path.h))
        h, mean = cell.tick(z, h, context_BTK.flatten(0, 1))
        if embedded_BTE is not None:
            so_far_BTE = in_blocks(embedded_BTE, period).cumsum(2).flatten(1, 2)[:, :length]
            mean = cell.posterior(h, so_far_BTE.flatten(0, 1)).mean
        return mean.unflatten(0, (-1, length)), h.unflatten(0, (-1, length))

    def _informed_levels(self) -> list[bool]:
        """Tell which levels see frames one by one."""
        return [sees and (level == 0 or self.hyperparameters.filter != "bottom") for level, sees in enumerate(self.use_obs)]

    def _with_actions(self, context: Tensor, actions: Tensor | None) -> Tensor:
        """Put actions (..., A), zeros for none, beside the context (..., K) of level 0 in a model that takes them."""
        if actions is None:
            return F.pad(context, (0, self.hyperparameters.action_size))
        checked = self._checked_actions(actions)
        return context if checked is None else torch.cat([context, checked], -1)

    def _checked_actions(self, actions: Tensor | None) -> Tensor | None:
        """Return the actions of a model that takes them; None where it takes none, or gets none."""
        size = self.hyperparameters.action_size
        if actions is None or not size:
            return None
        if actions.shape[-1] != size:
            raise ValueError(f"the model takes actions of length {size}, got {actions.shape[-1]}: set action_size to that")
        return actions

    def _checked_use_obs(self, use_obs: Sequence[bool] | None) -> Sequence[bool]:
        if use_obs is None:
            return self.use_obs
        if len(use_obs) != self.hyperparameters.levels:
            raise ValueError(f"use_obs names {len(use_obs)} levels, the model has {self.hyperparameters.levels}: give one value a level")
        for level, (wanted, trained) in enumerate(zip(use_obs, self.use_obs, strict=True)):
            if wanted and not trained:
                raise ValueError(f"use_obs asks level {level} to see the frames, but it was trained without")
        return use_obs

    def _kl_cost(self, path: Path, length: int) -> Tensor:
        """Return what a level's KL costs, in nats a frame, before beta."""
        h, posterior, prior = self.hyperparameters, path.posterior, path.prior
        if h.kl_balance is None:
            kl = gaussian_kl(posterior, prior)
        else:
            kl = h.kl_balance * gaussian_kl(posterior, prior.detach()) + (1 - h.kl_balance) * gaussian_kl(posterior.detach(), prior)
        total = kl.sum() / len(kl)
        return (F.relu(total - h.free_nats) if h.free_nats else total) / length

    def _decoded(self, output_NF: Tensor) -> Tensor:
        return at_least_float32(self.decoder(self.decoder_input(output_NF)))

    def _frames(self, output_BTF: Tensor) -> Tensor:
        """Decode (B, T, S + D) into frames (B, T, C, H, W) in [0, 1], some at once: a prediction may be 500 frames long."""
        chunks = output_BTF.flatten(0, 1).split(DECODED_AT_ONCE)
        return torch.cat([self.decode(chunk) for chunk in chunks]).unflatten(0, output_BTF.shape[:2])


def in_blocks(x_BTE: Tensor, size: int) -> Tensor:
    """Cut time into blocks (B, N, size, E), the last one filled up with zeros at its end."""
    return F.pad(x_BTE, (0, 0, 0, -x_BTE.shape[1] % size)).unflatten(1, (-1, size))


def block_sums(x_BTE: Tensor | None, size: int) -> Tensor | None:
    """Sum embeddings, where there are any, over blocks of `size` frames (B, N, E): the sum, not the mean, also of a block not full."""
    return None if x_BTE is None else in_blocks(x_BTE, size).sum(2)


def _read(z: Sequence[Tensor], h: Sequence[Tensor], reading: str) -> Tensor:
    if reading == "means":
        return torch.cat(list(z), -1)
    outputs = [torch.cat(pair, -1) for pair in zip(z, h, strict=True)]
    return outputs[0] if reading == "bottom" else torch.cat(outputs, -1)
