"""Which numbers an algorithm's settings may have."""

from typing import Any

from foundation.ranges import within

_SETTINGS = {
    **dict.fromkeys(("gamma", "gae_lambda", "tau", "exploration_initial_eps", "exploration_final_eps"), (0, 1)),
    **dict.fromkeys(("learning_rate", "ent_coef", "vf_coef", "max_grad_norm", "exploration_noise", "clip_range"), (0, 1e6)),
    **dict.fromkeys(("net_arch", "lstm_hidden_size", "n_quantiles"), (1, 65_536)),
    **dict.fromkeys(("n_envs", "n_epochs", "policy_delay"), (1, 4096)),
}
"""What Stable-Baselines3 takes, and no machine has more of."""


def check_settings(settings: Any) -> None:
    """Raise `UserError` for the first of an algorithm's settings, or numbers in one, that is none such an algorithm can have."""
    for name, (least, most) in _SETTINGS.items():
        value = getattr(settings, name, least)
        for one in value if isinstance(value, tuple) else (value,):
            within(least, most, **{f"algorithm.{name}": one})
