"""From recordings to a store: finding out what is new, decoding side by side, adding to a store."""
