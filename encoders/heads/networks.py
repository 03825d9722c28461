"""What each head computes from latents, its loss, and what of it is compared on held-out recordings.

Shapes: B batch, T frames of a clip, D latents, K actions, A numbers of an action, S numbers of a state, N frames of a batch.
Every loss is a mean over the frames whose target is known (not NaN), or the sum of two; with none, it is 0.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.encoder import EVIDENCE_OFFSET, Batch
from encoders.heads.config import ActionsConfig, Column, FutureConfig, HeadConfig, InverseConfig, StateConfig, ValueConfig
from encoders.means import Mean, WholeBatch

Compared = dict[str, tuple[Tensor, Tensor]]
"""Predictions and truths (N, columns) by the name of a score, NaN where a truth is not known; the name's end says which score."""


class Head(nn.Module):
    """A prediction from the reading `reading` (B, T, *shape): `forward` makes it, `means` and `compared` judge it."""

    ahead: int = 0
    """It also takes the latents of so many frames later."""
    batch_part: WholeBatch = WholeBatch()
    """What this process has of a batch."""

    def __init__(self, config: HeadConfig, reading: str) -> None:
        super().__init__()
        self.reading, self.weight = reading, config.weight

    def forward(self, latent: Tensor, later: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Return the sum of `means`, each by this process's share of what is known of the batch."""
        means = self.means(prediction, batch)
        return torch.stack([mean.value * self.batch_part.share(torch.as_tensor(mean.count)) for mean in means]).sum()

    def means(self, prediction: Tensor, batch: Batch) -> list[Mean]:
        """Return the means that the loss is the sum of."""
        raise NotImplementedError

    def compared(self, prediction: Tensor, batch: Batch) -> Compared:
        raise NotImplementedError


class Actions(Head):
    """The next K actions, (B, T, K, A): logits of keys, and other numbers divided by their scale."""

    def __init__(self, config: ActionsConfig, reading: str, size: int, hidden: int, columns: Sequence[Column]) -> None:
        super().__init__(config, reading)
        self.count, self.columns = config.count, tuple(columns)
        self.network = network(size, hidden, self.count * len(columns))

    def forward(self, latent: Tensor, later: Tensor | None = None) -> Tensor:
        return self.network(latent.flatten(2)).float().unflatten(2, (self.count, len(self.columns)))

    def means(self, prediction: Tensor, batch: Batch) -> list[Mean]:
        return action_means(prediction, batch.targets["next_actions"], self.columns)

    def compared(self, prediction: Tensor, batch: Batch) -> Compared:
        return compared_actions("actions", prediction, batch.targets["next_actions"], self.columns)


class Value(Head):
    """The logit (B, T) that the reward to come is above a number, or whose sigmoid is the reward itself."""

    def __init__(self, config: ValueConfig, reading: str, size: int, hidden: int) -> None:
        super().__init__(config, reading)
        self.above = config.above
        self.network = None if reading == "evidence" else network(size, hidden, 1)

    def forward(self, latent: Tensor, later: Tensor | None = None) -> Tensor:
        flat = latent.flatten(2)
        if self.network is None:
            return flat.float().logsumexp(2) - EVIDENCE_OFFSET
        return self.network(flat).float().squeeze(2)

    def means(self, prediction: Tensor, batch: Batch) -> list[Mean]:
        # of a number in [0, 1] too, cross-entropy is least at its mean
        return [masked_mean(F.binary_cross_entropy_with_logits, prediction, self._wanted(batch))]

    def compared(self, prediction: Tensor, batch: Batch) -> Compared:
        probability, truth = (x.flatten()[:, None] for x in (prediction.sigmoid(), self._wanted(batch)))
        return {"value_r2" if self.above is None else "value_auc": (probability, truth)}

    def _wanted(self, batch: Batch) -> Tensor:
        reward = batch.targets["reward_to_come"]
        return reward if self.above is None else torch.where(reward.isnan(), reward, (reward > self.above).float())


class Inverse(Head):
    """The action (B, T, 1, A) that led from each frame to the next, whose latents come with it."""

    ahead = 1

    def __init__(self, config: InverseConfig, reading: str, size: int, hidden: int, columns: Sequence[Column]) -> None:
        super().__init__(config, reading)
        self.columns = tuple(columns)
        self.network = network(2 * size, hidden, len(columns))

    def forward(self, latent: Tensor, later: Tensor | None = None) -> Tensor:
        assert later is not None
        return self.network(torch.cat([latent.flatten(2), later.flatten(2)], 2)).float().unsqueeze(2)

    def means(self, prediction: Tensor, batch: Batch) -> list[Mean]:
        return action_means(prediction, self._wanted(prediction, batch), self.columns)

    def compared(self, prediction: Tensor, batch: Batch) -> Compared:
        return compared_actions("inverse", prediction, self._wanted(prediction, batch), self.columns)

    def _wanted(self, prediction: Tensor, batch: Batch) -> Tensor:
        return unknown_where(batch.targets["next_actions"][:, : prediction.shape[1], :1], ~known_later(prediction, batch))


class Future(Head):
    """Which frame of the batch comes `ahead` frames later: scores (N, M), a row for each frame, a column for each later one.

    The scores are the cosines of two projections over a temperature (van den Oord, Li and Vinyals 2018; Chen et al. 2020). Where several
    processes share a batch, rows are of this one's part and columns of the whole; else M is N.
    """

    def __init__(self, config: FutureConfig, reading: str, size: int, hidden: int) -> None:
        super().__init__(config, reading)
        self.ahead, self.temperature = config.ahead, config.temperature
        width = hidden or size
        self.now, self.then = network(size, hidden, width), network(size, hidden, width)

    def forward(self, latent: Tensor, later: Tensor | None = None) -> Tensor:
        assert later is not None
        now, then = (F.normalize(one(x.flatten(2)).float().flatten(0, 1), dim=1) for one, x in ((self.now, latent), (self.then, later)))
        return now @ self.batch_part.gathered(then)[0].T / self.temperature

    def means(self, prediction: Tensor, batch: Batch) -> list[Mean]:
        known = self._known(batch)
        everywhere, first = self.batch_part.gathered(known)
        if not bool(known.any()):
            return [Mean(prediction.sum() * 0, known.sum())]
        # a frame whose later one is not known is no wrong answer either
        scores = prediction[known][:, everywhere]
        right = (everywhere.cumsum(0) - 1)[first : first + len(known)][known]
        return [Mean(F.cross_entropy(scores, right), known.sum())]

    def compared(self, prediction: Tensor, batch: Batch) -> Compared:
        known = self._known(batch)
        scores = prediction[known][:, known]
        right = scores.argmax(1) == torch.arange(len(scores), device=scores.device) if len(scores) else known[:0]
        return {"future_accuracy": (right.float()[:, None], torch.ones_like(right, dtype=torch.float32)[:, None])}

    def _known(self, batch: Batch) -> Tensor:
        frames = batch.frames[:, : max(1, batch.frames.shape[1] - self.ahead)]
        return known_later(frames, batch).flatten()


class StateOf(Head):
    """The numbers (B, T, S) of the recorded state, divided by their scale."""

    def __init__(self, config: StateConfig, reading: str, size: int, hidden: int, columns: Sequence[Column]) -> None:
        super().__init__(config, reading)
        self.columns = tuple(columns)
        self.network = network(size, hidden, len(columns))

    def forward(self, latent: Tensor, later: Tensor | None = None) -> Tensor:
        return self.network(latent.flatten(2)).float()

    def means(self, prediction: Tensor, batch: Batch) -> list[Mean]:
        return [masked_mean(F.mse_loss, prediction, self._wanted(batch))]

    def compared(self, prediction: Tensor, batch: Batch) -> Compared:
        return {"state_r2": (prediction.flatten(0, 1), self._wanted(batch).flatten(0, 1))}

    def _wanted(self, batch: Batch) -> Tensor:
        return batch.targets["state"] / scales(self.columns, batch.frames)


def network(size: int, hidden: int, out: int) -> nn.Module:
    """Return a layer of `hidden` units and a linear one, or only that."""
    return nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, out)) if hidden else nn.Linear(size, out)


def masked_mean(loss: Callable[..., Tensor], prediction: Tensor, target: Tensor) -> Mean:
    """Return the mean of an elementwise loss over the targets that are not NaN; 0 where none is known."""
    known = ~target.isnan()
    each = loss(prediction, torch.where(known, target, 0), reduction="none")
    # a product, not a choice, so that there is a gradient even of nothing
    count = known.sum()
    return Mean((each * known).sum() / count.clamp_min(1), count)


def action_means(prediction: Tensor, actions: Tensor, columns: Sequence[Column]) -> list[Mean]:
    """Return the cross-entropy of keys and the smooth L1 of numbers over their scale, as far as there are any, for actions (B, T, K, A)."""
    keys, numbers = places(columns)
    means = []
    if keys:
        means.append(masked_mean(F.binary_cross_entropy_with_logits, prediction[..., keys], actions[..., keys]))
    if numbers:
        wanted = (actions / scales(columns, actions))[..., numbers]
        means.append(masked_mean(F.smooth_l1_loss, prediction[..., numbers], wanted))
    return means


def compared_actions(head: str, prediction: Tensor, actions: Tensor, columns: Sequence[Column]) -> Compared:
    """Return what is compared of actions (B, T, K, A), each step a row."""
    keys, numbers = places(columns)
    rows, truths = prediction.flatten(0, 2), (actions / scales(columns, actions)).flatten(0, 2)
    found = {f"{head}_keys_auc": (rows[:, keys], truths[:, keys]), f"{head}_numbers_r2": (rows[:, numbers], truths[:, numbers])}
    return {name: pair for name, pair in found.items() if pair[0].shape[1]}


def places(columns: Sequence[Column]) -> tuple[list[int], list[int]]:
    """Return where the keys are and where the other numbers are."""
    keys = [place for place, column in enumerate(columns) if column.kind == "key"]
    return keys, [place for place in range(len(columns)) if place not in keys]


def scales(columns: Sequence[Column], like: Tensor) -> Tensor:
    """Return the columns' scales on the device of `like`."""
    return torch.tensor([column.scale for column in columns], dtype=torch.float32, device=like.device)


def known_later(x_BT: Tensor, batch: Batch) -> Tensor:
    """Tell of which of the frames (B, T, ...) the later one is known: in single frames as the label says, in clips of all."""
    known = batch.targets.get("frames_ahead_known")
    if known is not None and batch.frames.shape[1] == 1:
        return known > 0
    return torch.ones(x_BT.shape[:2], dtype=torch.bool, device=x_BT.device)


def unknown_where(target: Tensor, hidden_BT: Tensor) -> Tensor:
    """Return a target (B, T, ...) with NaN where `hidden` (B, T)."""
    return target.masked_fill(hidden_BT.view(*hidden_BT.shape, *[1] * (target.ndim - 2)), float("nan"))
