"""Pictures of several objects with masks and factors: drawn here, or read from a store that has them."""
