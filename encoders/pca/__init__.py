"""Principal components as an encoder: the control that is computed, not trained."""
