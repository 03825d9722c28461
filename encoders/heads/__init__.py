"""Heads: small networks that predict from the latents what recordings hold beside pixels, while an encoder trains."""

from typing import TYPE_CHECKING

from foundation.lazy import imports_on_demand

if TYPE_CHECKING:
    from encoders.heads.attached import Heads as Heads
    from encoders.heads.attached import attach_heads as attach_heads
    from encoders.heads.attached import value_giver as value_giver
    from encoders.heads.config import HeadsConfig as HeadsConfig
    from encoders.heads.config import Recorded as Recorded

_HOME = {
    "Heads": "attached",
    "HeadsConfig": "config",
    "Recorded": "config",
    "attach_heads": "attached",
    "value_giver": "attached",
}
__all__ = list(_HOME)
__getattr__ = imports_on_demand("encoders.heads", _HOME)
