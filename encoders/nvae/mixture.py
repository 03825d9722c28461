"""The likelihood of a discretised mixture of logistics, with its gradient written out: a fifth of autograd's passes over memory.

Shapes: N frames, M components, P pixels, K = 10 M parameters of a pixel; the 3 are red, green and blue.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MIN_LOG_SCALE = -7.0
MAX_LOG_SCALE = 20.0
_EDGE = 0.999


class MixtureLikelihood(torch.autograd.Function):
    """Log probability in nats a frame (N,) of values (N, 3, H, W) in [-1, 1], given parameters (N, 10 M, H, W) and half a bin."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, x_N3HW: Tensor, half_bin: float) -> Tensor:
        # frame by frame what is in between stays in a CPU's cache
        size = 1 if parameters.device.type == "cpu" else max(len(parameters), 1)
        gradient = torch.empty_like(parameters) if ctx.needs_input_grad[0] else None
        log_probs = []
        for start in range(0, len(parameters), size):
            rows = slice(start, start + size)
            log_prob_N, gradient_NKP = _log_prob(parameters[rows].flatten(2), x_N3HW[rows].flatten(2), half_bin, gradient is not None)
            log_probs.append(log_prob_N)
            if gradient is not None and gradient_NKP is not None:
                gradient[rows].flatten(2).copy_(gradient_NKP)
        ctx.save_for_backward(gradient)
        return torch.cat(log_probs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_above_N: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return from_above_N[:, None, None, None] * gradient, None, None


def _log_prob(parameters_NKP: Tensor, x_N3P: Tensor, half_bin: float, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Return log probabilities (N,) and, if asked for, their gradient in the parameters (N, K, P).

    The logarithm of a difference of two sigmoids is taken in closed form, log(s(a) - s(b)) = log s(a) + log s(-b) +
    log(1 - e^(b - a)), so that no value's probability vanishes or has to be approximated. Of the lowest value only s(a) is left,
    of the highest only s(-b).
    """
    mixtures = parameters_NKP.shape[1] // 10
    logits_NMP, of_channels = parameters_NKP.contiguous().split([mixtures, 9 * mixtures], 1)
    means_N3MP, log_scales_N3MP, coefficients_N3MP = of_channels.unflatten(1, (3, 3, mixtures)).unbind(2)
    coefficients_N3MP = coefficients_N3MP.tanh()
    x_N31P = x_N3P.to(parameters_NKP.dtype)[:, :, None]
    precision_N3MP = log_scales_N3MP.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE).neg_().exp_()
    scaled_N3MP = _centred(x_N31P, means_N3MP, coefficients_N3MP).mul_(precision_N3MP)
    half_N3MP = half_bin * precision_N3MP
    upper_N3MP, lower_N3MP = scaled_N3MP + half_N3MP, scaled_N3MP.sub_(half_N3MP)
    bin_N3MP = half_N3MP.mul_(2)
    has_lower, has_upper = (x_N31P >= -_EDGE).to(x_N31P.dtype), (x_N31P <= _EDGE).to(x_N31P.dtype)
    log_N3MP = F.logsigmoid(upper_N3MP).mul_(has_upper).addcmul_(F.logsigmoid(-lower_N3MP), has_lower)
    log_N3MP.addcmul_(torch.expm1(-bin_N3MP).neg_().log_(), has_lower * has_upper)
    joint_NMP = log_N3MP.sum(1).add_(logits_NMP.log_softmax(1))
    log_prob_N = joint_NMP.logsumexp(1).sum(1)
    if not with_gradient:
        return log_prob_N, None

    responsibility_NMP = joint_NMP.softmax(1)
    # how the log probability of a component changes with `upper` and with `lower`
    to_upper_N3MP, to_lower_N3MP = torch.sigmoid(-upper_N3MP).mul_(has_upper), torch.sigmoid(lower_N3MP).mul_(has_lower).neg_()
    to_log_precision = upper_N3MP.mul_(to_upper_N3MP).addcmul_(lower_N3MP, to_lower_N3MP)
    to_log_precision.addcmul_(bin_N3MP / torch.expm1(bin_N3MP), has_lower * has_upper)
    to_mean_N3MP = to_upper_N3MP.add_(to_lower_N3MP).mul_(precision_N3MP).mul_(responsibility_NMP[:, None]).neg_()
    within = (log_scales_N3MP >= MIN_LOG_SCALE) & (log_scales_N3MP <= MAX_LOG_SCALE)
    gradient = torch.empty_like(parameters_NKP, memory_format=torch.contiguous_format)
    to_logits_NMP, to_channels = gradient.split([mixtures, 9 * mixtures], 1)
    to_channels = to_channels.unflatten(1, (3, 3, mixtures))
    torch.sub(responsibility_NMP, logits_NMP.softmax(1), out=to_logits_NMP)
    to_channels[:, :, 0] = to_mean_N3MP
    to_channels[:, :, 1] = to_log_precision.mul_(responsibility_NMP[:, None]).neg_().mul_(within)
    to_channels[:, 0, 2] = to_mean_N3MP[:, 1] * x_N31P[:, 0]
    to_channels[:, 1, 2] = to_mean_N3MP[:, 2] * x_N31P[:, 0]
    to_channels[:, 2, 2] = to_mean_N3MP[:, 2] * x_N31P[:, 1]
    to_channels[:, :, 2] *= 1 - coefficients_N3MP.square()
    return log_prob_N, gradient


def _centred(x_N31P: Tensor, means_N3MP: Tensor, coefficients_N3MP: Tensor) -> Tensor:
    """Return values less their means; those of green and blue follow from the channels before."""
    centred_N3MP = x_N31P - means_N3MP
    red_N1P, green_N1P = x_N31P[:, 0], x_N31P[:, 1]
    centred_N3MP[:, 1].addcmul_(coefficients_N3MP[:, 0], red_N1P, value=-1)
    centred_N3MP[:, 2].addcmul_(coefficients_N3MP[:, 1], red_N1P, value=-1).addcmul_(coefficients_N3MP[:, 2], green_N1P, value=-1)
    return centred_N3MP
