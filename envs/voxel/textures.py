"""The pictures on the blocks: 16x16 textures drawn by rule, their coarser levels of detail, cracks and clouds.

Every picture is the same in every world; a world only tints what grows in it.
"""

from functools import cache

import numpy as np

from envs.voxel import blocks
from envs.voxel.noise import periodic_noise

_SIZE = 16
_LEVELS = 4
_TILES = (
    "grass_top", "grass_side", "dirt", "stone", "sand", "water",
    "oak_side", "oak_top", "birch_side", "birch_top", "oak_leaves", "birch_leaves", "diamond", "bedrock",
    "flower", "mushroom", "cave_dim", "cave_dark", "red", "yellow", "blue",
)  # fmt: skip
_FACES = {  # sides, top, bottom
    blocks.GRASS: ("grass_side", "grass_top", "dirt"),
    blocks.DIRT: ("dirt",) * 3,
    blocks.STONE: ("stone",) * 3,
    blocks.SAND: ("sand",) * 3,
    blocks.WATER: ("water",) * 3,
    blocks.OAK_LOG: ("oak_side", "oak_top", "oak_top"),
    blocks.OAK_LEAVES: ("oak_leaves",) * 3,
    blocks.BIRCH_LOG: ("birch_side", "birch_top", "birch_top"),
    blocks.BIRCH_LEAVES: ("birch_leaves",) * 3,
    blocks.DIAMOND: ("diamond",) * 3,
    blocks.BEDROCK: ("bedrock",) * 3,
    blocks.FLOWER: ("flower",) * 3,
    blocks.MUSHROOM: ("mushroom",) * 3,
    blocks.CAVE_DIM: ("cave_dim",) * 3,
    blocks.CAVE_DARK: ("cave_dark",) * 3,
    blocks.RED: ("red",) * 3,
    blocks.YELLOW: ("yellow",) * 3,
    blocks.BLUE: ("blue",) * 3,
}
CRACK_STAGES = 10


@cache
def tile_table() -> np.ndarray:
    """Return the tile of each (block, face), uint8; faces are east, west, top, bottom, south, north."""
    # an even number of rows, since bytes are read from words of four
    table = np.zeros((len(blocks.NAMES) + len(blocks.NAMES) % 2, 6), np.uint8)
    for block, (side, top, bottom) in _FACES.items():
        table[block] = [_TILES.index(name) for name in (side, side, top, bottom, side, side)]
    return table


def tinted_atlas(tint: np.ndarray) -> np.ndarray:
    """Return all textures, uint8 (tile, level of detail, 16, 16, 3), with grass and leaves multiplied by `tint` (RGB)."""
    base, grows = _atlas()
    return np.clip(np.where(grows, base * tint, base), 0, 255).astype(np.uint8)


@cache
def cracks() -> np.ndarray:
    """Return how much a block being broken darkens, uint8 (stage, 16, 16): lines that spread from its middle."""
    random = np.random.default_rng(7)
    picture = np.zeros((CRACK_STAGES, _SIZE, _SIZE), np.uint8)
    for angle in np.linspace(0, 2 * np.pi, 7)[:-1]:
        place, heading = np.array([7.5, 7.5]), angle
        for step in range(CRACK_STAGES):
            heading = angle + random.normal(0, 0.7)
            for _ in range(1 + step % 2):
                row, column = place.astype(int) % _SIZE
                picture[step:, row, column] = 170
                place = np.clip(place + np.array([np.sin(heading), np.cos(heading)]), 0, 15)
    return picture


@cache
def clouds() -> np.ndarray:
    """Return a map of clouds, uint8 (64, 64) of 0 and 1, that repeats without a seam."""
    return (periodic_noise(np.random.default_rng(11), 64, 16) > 0.24).astype(np.uint8)


@cache
def no_clouds() -> np.ndarray:
    """Return the map of clouds of an overcast sky, which shows none by itself."""
    return np.zeros_like(clouds())


@cache
def _atlas() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    drawn = {name: _DRAW[name](random) for name in _TILES}
    base = np.stack([_levels_of_detail(drawn[name]) for name in _TILES])
    green = np.stack([_levels_of_detail(_is_green(name, drawn[name])) for name in _TILES])
    return base, green > 0.5


def _is_green(name: str, picture: np.ndarray) -> np.ndarray:
    grows = name.startswith("grass") or name.endswith("leaves")
    mask = (picture[..., 1] > picture[..., 0]) & grows
    return np.broadcast_to(mask[..., None], picture.shape).astype(float)


def _levels_of_detail(picture: np.ndarray) -> np.ndarray:
    """Average a texture over 1, 2, 4 and 8 texels, each enlarged to full size again."""
    levels = []
    for level in range(_LEVELS):
        block = 2**level
        small = picture.reshape(_SIZE // block, block, _SIZE // block, block, 3).mean((1, 3))
        levels.append(small.repeat(block, 0).repeat(block, 1))
    return np.stack(levels)


def _speckled(random: np.random.Generator, colour: tuple[int, int, int], depth: float, levels: int = 5) -> np.ndarray:
    """Return a texture of one colour whose texels take a few brightnesses, as pixel artists draw earth."""
    shade = 1 + depth * (random.integers(0, levels, (_SIZE, _SIZE, 1)) / (levels - 1) - 0.5)
    return np.array(colour) * shade


def _grass_top(random: np.random.Generator) -> np.ndarray:
    return _speckled(random, (86, 136, 62), 0.42)


def _dirt(random: np.random.Generator) -> np.ndarray:
    picture = _speckled(random, (131, 94, 66), 0.4)
    picture[random.random((_SIZE, _SIZE)) < 0.07] = (88, 62, 44)
    picture[random.random((_SIZE, _SIZE)) < 0.05] = (150, 124, 104)
    return picture


def _grass_side(random: np.random.Generator) -> np.ndarray:
    picture, green = _dirt(random), _grass_top(random)
    depth = random.integers(2, 5, _SIZE)
    hangs = np.arange(_SIZE)[:, None] < depth
    return np.where(hangs[..., None], green, picture)


def _stone(random: np.random.Generator) -> np.ndarray:
    picture = _speckled(random, (124, 124, 126), 0.2, 4)
    for _ in range(9):
        row, column, length = random.integers(0, _SIZE), random.integers(0, _SIZE), random.integers(3, 7)
        picture[row, (column + np.arange(length)) % _SIZE] *= 0.82
    return picture


def _water(random: np.random.Generator) -> np.ndarray:
    picture = _speckled(random, (48, 74, 196), 0.12)
    for row in range(0, _SIZE, 3):
        picture[row, (random.integers(0, _SIZE) + np.arange(6)) % _SIZE] *= 1.2
    return picture


def _oak_side(random: np.random.Generator) -> np.ndarray:
    columns = random.permutation(np.repeat([0.62, 0.8, 1.0, 1.12], 4))
    picture = _speckled(random, (108, 84, 52), 0.16) * columns[None, :, None]
    for column in range(0, _SIZE, 3):
        row = random.integers(0, _SIZE)
        picture[(row + np.arange(6)) % _SIZE, column] *= 0.72
    return picture


def _birch_side(random: np.random.Generator) -> np.ndarray:
    picture = _speckled(random, (208, 209, 204), 0.1)
    for _ in range(11):
        row, column, length = random.integers(0, _SIZE), random.integers(0, _SIZE), random.integers(2, 6)
        picture[row, (column + np.arange(length)) % _SIZE] = (46, 45, 42)
    return picture


def _log_top(random: np.random.Generator, bark: tuple[int, int, int]) -> np.ndarray:
    away = np.abs(np.arange(_SIZE) - 7.5)
    ring = np.maximum(away[:, None], away[None, :])
    picture = _speckled(random, (176, 143, 88), 0.1) * np.where(ring.astype(int) % 2 == 0, 0.82, 1.05)[..., None]
    picture[ring > 7] = np.array(bark) * 0.9
    return picture


def _leaves(random: np.random.Generator, colour: tuple[int, int, int]) -> np.ndarray:
    """Draw leaves as blobs two or three texels wide over near-black gaps, as Minecraft's fast graphics show them."""
    blobs = random.random((_SIZE, _SIZE))
    blobs = (blobs + np.roll(blobs, 1, 1) + 0.6 * np.roll(blobs, 1, 0)) / 2.6
    picture = _speckled(random, colour, 0.5)
    picture[blobs < np.quantile(blobs, 0.4)] = (8, 11, 7)
    return picture


def _diamond(random: np.random.Generator) -> np.ndarray:
    picture = _speckled(random, (104, 222, 214), 0.14)
    picture[[0, -1], :] = picture[:, [0, -1]] = (56, 150, 148)
    across = np.add.outer(np.arange(_SIZE), np.arange(_SIZE))
    picture[(across % 9 == 3) & (across > 4)] = (206, 248, 244)
    return picture


def _flower(random: np.random.Generator) -> np.ndarray:
    """Draw a red blossom with a yellow eye: as much of it yellow as of a mushroom is white."""
    picture = _speckled(random, _RED, 0.3)
    away = np.hypot.outer(np.arange(_SIZE) - 7.5, np.arange(_SIZE) - 7.5)
    picture[away < 4.2] = (238, 204, 96)
    picture[(away > 7.2) & (away < 8.2)] *= 0.7
    return picture


def _mushroom(random: np.random.Generator) -> np.ndarray:
    picture = _speckled(random, _RED, 0.3)
    for row, column in ((2, 2), (1, 10), (7, 6), (7, 13), (11, 1), (12, 10)):
        picture[row : row + 3, column : column + 3] = (232, 206, 160)
    return picture


def _beacon(random: np.random.Generator, colour: tuple[int, int, int]) -> np.ndarray:
    picture = _speckled(random, colour, 0.12)
    picture[[0, -1], :] = picture[:, [0, -1]] = np.array(colour) * 0.6
    return picture


_RED = (190, 44, 44)
_DRAW = {
    "grass_top": _grass_top,
    "grass_side": _grass_side,
    "dirt": _dirt,
    "stone": _stone,
    "sand": lambda random: _speckled(random, (216, 204, 160), 0.12),
    "water": _water,
    "oak_side": _oak_side,
    "oak_top": lambda random: _log_top(random, (104, 82, 50)),
    "birch_side": _birch_side,
    "birch_top": lambda random: _log_top(random, (208, 209, 204)),
    "oak_leaves": lambda random: _leaves(random, (52, 92, 34)),
    "birch_leaves": lambda random: _leaves(random, (74, 104, 54)),
    "diamond": _diamond,
    "bedrock": lambda random: _speckled(random, (70, 70, 72), 0.9, 4),
    "flower": _flower,
    "mushroom": _mushroom,
    # no light reaches a cave: its stones are dark by themselves
    "cave_dim": lambda random: _stone(random) * 0.5,
    "cave_dark": lambda random: _stone(random) * 0.18,
    "red": lambda random: _beacon(random, (214, 40, 36)),
    "yellow": lambda random: _beacon(random, (240, 208, 40)),
    "blue": lambda random: _beacon(random, (44, 72, 220)),
}
