"""What of the recordings goes in, and where: manifests, trimming, duplicates, splits."""
