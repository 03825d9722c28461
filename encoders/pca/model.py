"""Principal components as an encoder: the control that is computed, not trained (Tipping & Bishop 1999).

Shapes: N frames, C channels, H height, W width, P = C*H*W pixels, D latents.
"""

import math

import torch
from torch import Tensor

from encoders.encoder import Batch, Encoder, State
from encoders.pca.hyperparameters import PCAHyperparameters

_ITERATIONS = 4
_OVERSAMPLING = 16


class PCA(Encoder):
    """Encode a frame into the posterior mean of probabilistic PCA.

    The model is x = mean + W z + noise with z ~ N(0, I) and W the leading components, so that likelihood and KL are exact.
    It has buffers only: `fit` computes them, and training it changes nothing.
    """

    Hyperparameters = PCAHyperparameters
    collapse_remedy = "choose another model.latent_dim"
    hyperparameters: PCAHyperparameters
    mean: Tensor
    components: Tensor
    variances: Tensor
    noise: Tensor

    def __init__(self, hyperparameters: PCAHyperparameters | None = None) -> None:
        super().__init__()
        self.hyperparameters = h = hyperparameters or PCAHyperparameters()
        self.frame_shape = h.frame_shape
        self.latents = {"mean": (h.latent_dim,)}
        pixels = math.prod(h.frame_shape)
        if not 1 <= h.latent_dim < pixels:
            raise ValueError(f"latent_dim must be from 1 to {pixels - 1}, got {h.latent_dim}")
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("components", torch.eye(h.latent_dim, pixels))
        self.register_buffer("variances", torch.ones(h.latent_dim))
        self.register_buffer("noise", torch.ones(()))

    @torch.no_grad()
    def fit(self, frames: Tensor) -> None:
        """Compute the leading components of frames (N, C, H, W) by subspace iteration from a fixed start (Halko et al. 2011)."""
        latent_dim = self.hyperparameters.latent_dim
        if len(frames) <= latent_dim:
            raise ValueError(f"{latent_dim} components need more than {latent_dim} frames, got {len(frames)}")
        x_NP = frames.flatten(1)
        mean_P = x_NP.mean(0)
        x_NP = x_NP - mean_P
        width = min(latent_dim + _OVERSAMPLING, len(x_NP), x_NP.shape[1])
        start = torch.randn(x_NP.shape[1], width, generator=torch.Generator().manual_seed(0)).to(x_NP)
        basis_PK = torch.linalg.qr(start)[0]
        for _ in range(_ITERATIONS):
            basis_PK = torch.linalg.qr(x_NP.T @ (x_NP @ basis_PK))[0]
        _, singular_K, right_KK = torch.linalg.svd(x_NP @ basis_PK, full_matrices=False)
        components_DP = (basis_PK @ right_KK.T).T[:latent_dim]
        variances_D = singular_K[:latent_dim].square() / len(x_NP)
        left_over = x_NP.square().sum() / len(x_NP) - variances_D.sum()
        noise = (left_over / (x_NP.shape[1] - latent_dim)).clamp_min(1e-8)
        self.mean.copy_(mean_P)
        self.components.copy_(components_DP * _signs(components_DP))
        self.noise.copy_(noise)
        # a component below the noise would have an imaginary weight: it carries nothing
        self.variances.copy_(torch.maximum(variances_D, noise))

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        frames = batch.frames.flatten(0, 1)
        residual = self.reconstruct(batch.frames).flatten(0, 1) - frames
        negative_elbo = self._negative_log_likelihood(frames)
        return {
            "loss": negative_elbo,
            "reconstruction": residual.square().sum((1, 2, 3)).mean() / 2,
            "kl": self.kl_per_unit(batch.frames)["mean"].sum(),
            "negative_elbo": negative_elbo,
            "bits_per_dim": (negative_elbo / len(self.mean) + math.log(255)) / math.log(2),
        }

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        self.reading(latents)
        gain_D = (self.variances - self.noise).sqrt() / self.variances
        return self._project(frames) * gain_D, state

    def kl_per_unit(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        mean_ND = self.encode(frames.flatten(0, 1), {})[0]
        variance_D = self.noise / self.variances
        return {"mean": ((mean_ND.square() + variance_D - 1 - variance_D.log()) / 2).mean(0)}

    def reconstruct(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """Return the orthogonal projections of frames (B, T, C, H, W) onto the components."""
        return self._frames(self._project(frames.flatten(0, 1))).view_as(frames)

    def sample(self, count: int) -> Tensor:
        z_ND = torch.randn(count, len(self.variances), device=self.mean.device)
        return self._frames(z_ND * (self.variances - self.noise).sqrt()).unsqueeze(1)

    def decode(self, latents: Tensor) -> Tensor:
        gain_D = self.variances / (self.variances - self.noise).sqrt().clamp_min(1e-8)
        return self._frames(latents * gain_D)

    def _project(self, frames: Tensor) -> Tensor:
        return (frames.flatten(1) - self.mean) @ self.components.T

    def _frames(self, projection_ND: Tensor) -> Tensor:
        height, width, channels = self.frame_shape
        x_NP = projection_ND @ self.components + self.mean
        return x_NP.view(-1, channels, height, width).clamp(0, 1)

    def _negative_log_likelihood(self, frames: Tensor) -> Tensor:
        """Return the exact negative log-likelihood, in nats a frame (Tipping & Bishop 1999, equation 4)."""
        x_NP = frames.flatten(1) - self.mean
        inside_ND = x_NP @ self.components.T
        outside_N = (x_NP.square().sum(1) - inside_ND.square().sum(1)).clamp_min(0)
        pixels, latent_dim = len(self.mean), len(self.variances)
        log_determinant = self.variances.log().sum() + (pixels - latent_dim) * self.noise.log()
        distance_N = (inside_ND.square() / self.variances).sum(1) + outside_N / self.noise
        return (pixels * math.log(2 * math.pi) + log_determinant + distance_N.mean()) / 2


def _signs(components_DP: Tensor) -> Tensor:
    """Return the sign (D, 1) of each component's largest entry, which makes the components unique."""
    return components_DP.gather(1, components_DP.abs().argmax(1, keepdim=True)).sign()
