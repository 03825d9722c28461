"""The Clockwork VAE gives the same numbers as a slow one, written here tick by tick from the equations, and as it gives compiled."""

import contextlib

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

import encoders.cwvae.scan
from encoders import Batch
from encoders.cwvae.hyperparameters import ClockworkVAEHyperparameters
from encoders.cwvae.model import ClockworkVAE

SIZES = {
    "frame_shape": (16, 16, 3),
    "clip_length": 11,
    "factor": 2,
    "stochastic": 3,
    "deterministic": 5,
    "hidden": 6,
    "filters": 2,
    "encoder_kernels": (4, 4),
    "decoder_kernels": (6, 6),
    "dense_units": 7,
}
# 11 frames are 6 ticks of level 1 and 3 of level 2, the last ones not full


def varied(**options: object) -> ClockworkVAE:
    """Make a small model in float64 with weights, biases included, large enough to matter."""
    torch.manual_seed(0)
    model = ClockworkVAE(ClockworkVAEHyperparameters(**SIZES | options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4 if parameter.ndim == 1 else 1.5 / parameter[0].numel() ** 0.5)
    return model


def clips(model: ClockworkVAE, count: int = 2) -> tuple[Tensor, Tensor | None]:
    """Draw frames (B, T, C, H, W) and, for a model that takes them, actions (B, T, A)."""
    h, source = model.hyperparameters, torch.Generator().manual_seed(1)
    frames = torch.rand(count, h.clip_length, h.frame_shape[2], *h.frame_shape[:2], generator=source, dtype=torch.float64)
    actions = torch.randn(count, h.clip_length, h.action_size, generator=source, dtype=torch.float64)
    return frames, actions if h.action_size else None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"std_offset": "presoftplus", "min_stddev": 0.1, "channels_mult": 2},
        {"mean_only": True, "action_size": 2},
        {"beta": (1.0, 0.5, 2.0), "free_nats": 0.9, "kl_balance": 0.8},
        {"free_nats": 1e6},
        {"use_obs": (True, False, True), "dense_layers": 1},
        {"use_obs": (True, True, False), "dense_layers": 0},
        {"levels": 1, "factor": 3},
        {"levels": 2, "factor": 4, "dense_layers": 2},
    ],
    ids=str,
)
def test_a_training_step_has_the_loss_and_gradients_of_the_slow_model(options: dict) -> None:
    model = varied(**options)
    frames, actions = clips(model)
    noise = model.draw_noise(*frames.shape[:2], torch.Generator().manual_seed(2))
    fast = model.loss(Batch(frames, actions), 0, noise)
    fast["loss"].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    slow = SlowClockworkVAE(model).loss(frames, noise, actions)
    slow["loss"].backward()
    for name in ("loss", "nll", *(f"kl_{level}" for level in range(model.hyperparameters.levels))):
        if name.startswith("kl") and model.hyperparameters.kl_balance is not None:
            continue
        torch.testing.assert_close(fast[name], slow[name], rtol=1e-9, atol=1e-9)
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients.values())
    for name, parameter in model.named_parameters():
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradients[name], wanted, rtol=1e-6, atol=1e-6, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("options", [{}, {"action_size": 2}, {"mean_only": True, "levels": 2, "factor": 4}], ids=str)
@pytest.mark.parametrize("blind", [False, True])
@torch.no_grad()
def test_a_prediction_is_what_the_slow_model_predicts(options: dict, blind: bool) -> None:
    model = varied(**options)
    levels = model.hyperparameters.levels
    frames, context, length = clips(model)[0][:, :9], 8, 15
    actions = torch.randn(2, length, 2, dtype=torch.float64) if model.hyperparameters.action_size else None
    sees = (True,) * (levels - 1) + (not blind,)
    source, again = (torch.Generator().manual_seed(4) for _ in range(2))
    fast = next(model.open_loop(frames, context, length - context, use_obs=sees, generator=source, actions=actions))
    noise, slow = model.draw_noise(2, length, again), SlowClockworkVAE(model)
    for row, clip in enumerate(frames):
        drawn, acted = [n if n is None else n[row] for n in noise], None if actions is None else actions[row]
        outputs, _ = slow.unrolled(clip[:context], length, drawn, acted, sees)
        torch.testing.assert_close(fast[row], torch.stack([slow.decode(output) for output in outputs]).clamp(0, 1), rtol=1e-9, atol=1e-9)


FILTERS = [
    {"filter": "delayed"},
    {"filter": "partial"},
    {"filter": "bottom"},
    {"filter": "delayed", "action_size": 2, "factor": 3, "levels": 2},
    {"filter": "partial", "action_size": 2},
    {"filter": "delayed", "use_obs": (True, False, True)},
    {"filter": "partial", "use_obs": (True, True, False)},
]


@pytest.mark.parametrize("options", FILTERS, ids=str)
@torch.no_grad()
def test_filtering_a_clip_gives_what_the_slow_filter_gives(options: dict) -> None:
    model = varied(**options)
    frames, actions = clips(model)
    slow = torch.stack([SlowClockworkVAE(model).filtered(clip, None if actions is None else actions[i]) for i, clip in enumerate(frames)])
    torch.testing.assert_close(model.encode_clip(frames, actions), slow[:, :, 0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.encode_clip(frames, actions, "levels"), slow.flatten(2), rtol=1e-9, atol=1e-9)
    means = slow[..., : model.hyperparameters.stochastic].flatten(2)
    torch.testing.assert_close(model.encode_clip(frames, actions, "means"), means, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", FILTERS, ids=str)
@torch.no_grad()
def test_frames_one_by_one_from_rows_reset_at_different_times_give_what_their_clips_give(options: dict) -> None:
    model = varied(**options).float()
    frames, actions = (None if x is None else x.float() for x in clips(model, 4))
    for reading in model.latents:
        whole = model.encode_clip(frames, actions, reading)
        state, started, compared = model.initial_state(4), [0] * 4, 0
        for time in range(25):
            rows = [time - start for start in started]
            for row in range(4):
                # each row ends after a number of frames of its own and starts its clip again
                if rows[row] == (11, 3, 7, 6)[row]:
                    state = {name: x.index_fill(0, torch.tensor(row), 0) for name, x in state.items()}
                    started[row], rows[row] = time, 0
            now = torch.stack([frames[row, rows[row]] for row in range(4)])
            acted = None if actions is None else torch.stack([actions[row, rows[row]] for row in range(4)])
            latent, state = model.encode(now, state, acted, reading)
            wanted = torch.stack([whole[row, rows[row]] for row in range(4)])
            torch.testing.assert_close(latent, wanted, rtol=1e-5, atol=1e-5)
            compared += len(set(rows)) > 1
        assert compared > 10


@pytest.mark.parametrize("kind", ["delayed", "partial", "bottom"])
@torch.no_grad()
def test_a_filter_never_looks_ahead_and_only_bottom_lets_upper_levels_go_blind(kind: str) -> None:
    model = varied(filter=kind)
    frames, _ = clips(model)
    changed = frames.clone()
    changed[:, 6:] = 1 - changed[:, 6:]
    before, after = (model.encode_clip(x, latents="levels").unflatten(2, (3, -1)) for x in (frames, changed))
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6, 0], after[:, 6, 0])
    upper_levels_see = not torch.allclose(before[:, 6:, 1:], after[:, 6:, 1:])
    assert upper_levels_see == (kind != "bottom")


@pytest.mark.slow
def test_the_compiled_scan_gives_the_same_loss_and_gradients() -> None:
    model = varied().float()
    frames = clips(model)[0].float()
    noise = model.draw_noise(*frames.shape[:2])
    steps = []
    for compiled in (False, True):
        if compiled and not model.compile_scan():
            pytest.skip("torch.compile finds no compiler here")
        model.zero_grad()
        loss = model.loss(Batch(frames), 0, noise)["loss"]
        loss.backward()
        steps.append([loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    for eager, compiled in zip(*steps, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5 * float(eager.abs().max()))


def test_without_a_compiler_the_model_says_so_in_one_line_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler\nand a long explanation")

    monkeypatch.setattr(torch, "compile", fail)
    with contextlib.ExitStack() as stack:
        for cached in (encoders.cwvae.scan.can_compile, encoders.cwvae.scan._compiled):
            cached.cache_clear()
            stack.callback(cached.cache_clear)
        model = varied()
        assert not model.compile_scan()
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert "no C++ compiler" in printed
        assert torch.isfinite(model.loss(Batch(clips(model)[0]), 0)["loss"])


def test_bfloat16_changes_the_loss_and_its_gradient_by_rounding_only() -> None:
    model = varied().float()
    frames = clips(model)[0].float()
    noise = model.draw_noise(*frames.shape[:2])
    steps = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = model.loss(Batch(frames), 0, noise)["loss"]
        loss.backward()
        assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
        steps.append((loss.detach(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])))
    torch.testing.assert_close(steps[1][0], steps[0][0], rtol=1e-2, atol=0)
    assert F.cosine_similarity(steps[0][1], steps[1][1], dim=0) > 0.999


class SlowClockworkVAE:
    """Everything is a loop over one clip of the batch at a time; shares no code with the fast model, only its weights by name."""

    def __init__(self, model: nn.Module) -> None:
        self.h = model.hyperparameters
        self.weights = dict(model.named_parameters())

    def linear(self, name: str, x: Tensor) -> Tensor:
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def embedding(self, frame: Tensor) -> list[Tensor]:
        """One frame (C, H, W) -> its embedding for every level."""
        for layer in range(len(self.h.encoder_kernels)):
            weight, bias = (self.weights[f"encoder.{2 * layer}.{kind}"] for kind in ("weight", "bias"))
            frame = F.leaky_relu(F.conv2d(frame[None], weight, bias, stride=2)[0], 0.2)
        embedded = [frame.reshape(-1)]
        for level in range(1, self.h.levels):
            e = embedded[-1]
            for layer in range(self.h.dense_layers):
                if f"dense.{level - 1}.{2 * layer}.weight" not in self.weights:
                    continue
                e = self.linear(f"dense.{level - 1}.{2 * layer}", e)
                e = e.clamp(min=0) if layer < self.h.dense_layers - 1 else e
            embedded.append(e)
        return embedded

    def decode(self, output: Tensor) -> Tensor:
        x = self.linear("decoder_input.0", output).reshape(1, -1, 1, 1)
        for layer in range(len(self.h.decoder_kernels)):
            weight, bias = (self.weights[f"decoder.{2 * layer}.{kind}"] for kind in ("weight", "bias"))
            x = F.conv_transpose2d(x, weight, bias, stride=2)
            x = torch.tanh(x) if layer == len(self.h.decoder_kernels) - 1 else F.leaky_relu(x, 0.2)
        return x[0]

    def recurrent(self, level: int, z: Tensor, h: Tensor, context: Tensor) -> Tensor:
        u = self.linear(f"cells.{level}.prior_input", torch.cat([z, context])).clamp(min=0)
        gru = f"cells.{level}.gru"
        from_u = (self.weights[f"{gru}.weight_ih"] @ u + self.weights[f"{gru}.bias_ih"]).reshape(3, -1)
        from_h = (self.weights[f"{gru}.weight_hh"] @ h + self.weights[f"{gru}.bias_hh"]).reshape(3, -1)
        reset, update = 1 / (1 + torch.exp(-from_u[0] - from_h[0])), 1 / (1 + torch.exp(-from_u[1] - from_h[1]))
        return update * h + (1 - update) * torch.tanh(from_u[2] + reset * from_h[2])

    def gaussian(self, level: int, name: str, hidden: Tensor) -> Normal:
        mean = self.linear(f"cells.{level}.{name}_mean", hidden)
        if self.h.std_offset == "hidden":
            raw = self.linear(f"cells.{level}.{name}_stddev", hidden + 0.54)
        else:
            raw = self.linear(f"cells.{level}.{name}_stddev", hidden) + 0.54
        return Normal(mean, torch.log(1 + torch.exp(raw)) + self.h.min_stddev)

    def prior(self, level: int, h: Tensor) -> Normal:
        return self.gaussian(level, "prior", self.linear(f"cells.{level}.prior_hidden", h).clamp(min=0))

    def posterior(self, level: int, h: Tensor, evidence: Tensor) -> Normal:
        w = self.linear(f"cells.{level}.posterior_input", torch.cat([h, evidence])).clamp(min=0)
        return self.gaussian(level, "posterior", self.linear(f"cells.{level}.posterior_hidden", w).clamp(min=0))

    def unrolled(
        self, clip: Tensor, length: int, noise: list[Tensor | None], actions: Tensor | None, sees: tuple[bool, ...] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """[z; h] of level 0 over `length` frames, the posteriors' for those of the clip (T, C, H, W); and the KL of every level."""
        sees = sees or self.h.use_obs or (True,) * self.h.levels
        embedded = [self.embedding(frame) for frame in clip]
        above, kls = None, []
        for level in reversed(range(self.h.levels)):
            period = self.h.factor**level
            z, h = torch.zeros(self.h.stochastic, dtype=clip.dtype), torch.zeros(self.h.deterministic, dtype=clip.dtype)
            outputs, kl = [], torch.zeros((), dtype=clip.dtype)
            for tick in range((length + period - 1) // period):
                context = above[tick // self.h.factor] if above else torch.zeros(len(z) + len(h), dtype=clip.dtype)
                if level == 0 and actions is not None:
                    context = torch.cat([context, actions[tick]])
                h = self.recurrent(level, z, h, context)
                prior = chosen = self.prior(level, h)
                if sees[level] and tick * period < len(clip):
                    chosen = self.posterior(level, h, sum(e[level] for e in embedded[tick * period : (tick + 1) * period]))
                z = chosen.mean if self.h.mean_only else chosen.mean + chosen.stddev * noise[level][tick]
                kl = kl + self.balanced(chosen, prior)
                outputs.append(torch.cat([z, h]))
            above = outputs
            kls.insert(0, kl)
        return outputs, kls

    def loss(self, clips: Tensor, noise: list[Tensor | None], actions: Tensor | None) -> dict[str, Tensor]:
        """Terms in nats a frame for clips (B, T, C, H, W); `noise` (B, N, S) a level."""
        count, length = clips.shape[:2]
        likelihood, kls = torch.zeros((), dtype=clips.dtype), [torch.zeros((), dtype=clips.dtype) for _ in range(self.h.levels)]
        for row, clip in enumerate(clips):
            drawn, acted = [n if n is None else n[row] for n in noise], None if actions is None else actions[row]
            outputs, divergences = self.unrolled(clip, length, drawn, acted)
            for level, divergence in enumerate(divergences):
                kls[level] = kls[level] + divergence / count
            for frame, output in zip(clip, outputs, strict=True):
                likelihood = likelihood + Normal(self.decode(output), self.h.frame_stddev).log_prob(frame).sum() / count
        betas = self.h.beta if isinstance(self.h.beta, tuple) else [self.h.beta] * self.h.levels
        cost = sum(beta * (kl - self.h.free_nats if kl > self.h.free_nats else 0 * kl) for beta, kl in zip(betas, kls, strict=True))
        return {"loss": (cost - likelihood) / length, "nll": -likelihood / length, **{f"kl_{i}": kl / length for i, kl in enumerate(kls)}}

    def balanced(self, posterior: Normal, prior: Normal) -> Tensor:
        if self.h.kl_balance is None:
            return kl_divergence(posterior, prior).sum()
        still_prior, still_posterior = (Normal(d.mean.detach(), d.stddev.detach()) for d in (prior, posterior))
        to_posterior, to_prior = kl_divergence(posterior, still_prior).sum(), kl_divergence(still_posterior, prior).sum()
        return self.h.kl_balance * to_posterior + (1 - self.h.kl_balance) * to_prior

    def filtered(self, clip: Tensor, actions: Tensor | None) -> Tensor:
        """What an agent gets to see of one clip (T, C, H, W), frame by frame: [z; h] of every level (T, L, S + D)."""
        levels, sees = range(self.h.levels), self.h.use_obs or (True,) * self.h.levels
        zeros = (torch.zeros(self.h.stochastic, dtype=clip.dtype), torch.zeros(self.h.deterministic, dtype=clip.dtype))
        before, now = [zeros for _ in levels], [zeros for _ in levels]
        sums = [torch.zeros((), dtype=clip.dtype) for _ in levels]
        seen = []
        for time, frame in enumerate(clip):
            embedded = self.embedding(frame)
            for level in reversed(levels):
                period = self.h.factor**level
                first, last = time % period == 0, time % period == period - 1
                informed = sees[level] and (level == 0 or self.h.filter != "bottom")
                context = torch.cat(now[level + 1]) if level + 1 < self.h.levels else torch.zeros_like(torch.cat(zeros))
                if level == 0 and actions is not None:
                    context = torch.cat([context, actions[time]])
                if first:
                    before[level], sums[level] = now[level], torch.zeros((), dtype=clip.dtype)
                sums[level] = sums[level] + embedded[level]
                if first or self.h.filter == "partial":
                    h = self.recurrent(level, *before[level], context)
                    now[level] = (self.prior(level, h).mean, h)
                if informed and (last or self.h.filter == "partial"):
                    now[level] = (self.posterior(level, now[level][1], sums[level]).mean, now[level][1])
            seen.append(torch.stack([torch.cat(state) for state in now]))
        return torch.stack(seen)
