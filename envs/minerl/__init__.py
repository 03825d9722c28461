"""MineRL as a gymnasium environment: the `minerl` client in this process or another, over Minecraft or over the voxel world."""
