"""EfficientMORL, and Slot Attention."""

from encoders.efficientmorl.hyperparameters import EfficientMORLHyperparameters as EfficientMORLHyperparameters
from encoders.efficientmorl.hyperparameters import SlotAttentionHyperparameters as SlotAttentionHyperparameters
from encoders.efficientmorl.model import EfficientMORL as EfficientMORL
from encoders.efficientmorl.slot_attention import SlotAttention as SlotAttention
