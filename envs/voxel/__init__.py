"""The embedded voxel world: a seeded stand-in for Minecraft that runs on a fresh machine."""
