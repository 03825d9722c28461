"""How encoders are trained, validated and judged."""
