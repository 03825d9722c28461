"""The file of a store: its format, its pages, how it is written and read."""
