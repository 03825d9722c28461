"""Frame stores filled from every source: recordings, drawn scenes, environments with players who learned or did not.

What needs stores, environments and trained agents together stands here, a floor above all of them.
"""
