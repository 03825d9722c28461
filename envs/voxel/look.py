"""How a world looks beside what stands in it: the colours of the season, the daylight, the weather.

A look draws nothing from the world's random numbers: under any look the same seed gives the same ground, things and start.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.voxel import kernels, textures
from envs.voxel.terrain import DAYLIGHTS, HORIZON, ZENITH, World
from foundation.errors import UserError, nearest

DEFAULT, VARIED = "default", "varied"
_DARKEST = 0.25
"""The least of varied daylight."""

# what multiplies the colours of grass and leaves, and the colours of the sky at the horizon and above
_PALETTES = {
    "autumn": ((1.75, 0.78, 0.45), (214, 200, 186), (150, 164, 196)),
    "dry": ((1.75, 1.12, 0.95), (230, 214, 180), (146, 172, 214)),
    "frost": ((2.1, 1.5, 2.9), (224, 229, 236), (168, 188, 220)),
    "violet": ((1.3, 0.62, 2.5), (236, 192, 214), (168, 120, 198)),
}
_CLEAR_FOG = (24.0, 72.0)
# where fog begins and ends in blocks, the colour of the sky (or as it is), how much of the daylight is left
_WEATHERS: dict[str, tuple[tuple[float, float], tuple[int, int, int] | None, float]] = {
    "clear": (_CLEAR_FOG, None, 1.0),
    "rain": ((8.0, 48.0), (150, 156, 164), 0.75),
    "fog": ((2.0, 26.0), (198, 202, 206), 0.95),
}


@dataclass(frozen=True)
class Light:
    """What a picture takes of a look: the vector of the sky (`kernels.LOOK_SIZE`), the tint of what grows, clouds, whether it rains, and up
    to how many blocks into the picture things are seen."""

    sky: np.ndarray
    tint: np.ndarray
    clouds: np.ndarray
    rains: bool
    sight: float


@dataclass(frozen=True)
class Look:
    """The options of a world's look; raises `UserError` for a value that there is not.

    `palette` is default, autumn, dry, frost or violet; `daylight` default (each world's own, bright), or a number from 0, black, to 1;
    `weather` clear, rain or fog. Each may be `varied`: another one in every world.
    """

    palette: str = DEFAULT
    daylight: float | str = DEFAULT
    weather: str = "clear"

    def __post_init__(self) -> None:
        _check("palette", self.palette, (DEFAULT, *_PALETTES, VARIED))
        _check("weather", self.weather, (*_WEATHERS, VARIED))
        if isinstance(self.daylight, str):
            _check("daylight", self.daylight, (DEFAULT, VARIED))
        elif isinstance(self.daylight, bool) or not 0 <= self.daylight <= 1:
            raise UserError(f"daylight={self.daylight}: must be a number from 0 to 1, '{DEFAULT}' or '{VARIED}'")

    def of(self, world: World) -> Light:
        """Return the light of a world: the same for the same world, also when it is restored."""
        # the clouds' place is drawn with the world and saved with it
        random = np.random.default_rng(int(world.sky[kernels.DRIFT] * 2**40))
        shifts, chosen = random.uniform(-1, 1, 9), random.choice(list(_WEATHERS))
        sky = np.empty(kernels.LOOK_SIZE)
        sky[: kernels.SKY_SIZE] = world.sky
        tint = self._colour(sky, world.tint, shifts)
        if self.daylight != DEFAULT:
            part = (sky[kernels.DAYLIGHT] - DAYLIGHTS[0]) / (DAYLIGHTS[1] - DAYLIGHTS[0])
            sky[kernels.DAYLIGHT] = _DARKEST + (1 - _DARKEST) * part if self.daylight == VARIED else float(self.daylight)
        weather = chosen if self.weather == VARIED else self.weather
        (sky[kernels.FOG_FROM], sky[kernels.FOG_TO]), grey, left = _WEATHERS[weather]
        sky[kernels.DAYLIGHT] *= left
        if grey is not None:
            sky[kernels.HORIZON : kernels.HORIZON + 3] = sky[kernels.ZENITH : kernels.ZENITH + 3] = grey
        clouds = textures.clouds() if grey is None else textures.no_clouds()
        return Light(sky, tint, clouds, weather == "rain", _sight(sky, clear=grey is None))

    def _colour(self, sky: np.ndarray, tint: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """Colour a sky by the palette, and return the tint that it gives to what grows."""
        if self.palette == DEFAULT:
            return tint
        horizon, zenith = sky[kernels.HORIZON : kernels.HORIZON + 3], sky[kernels.ZENITH : kernels.ZENITH + 3]
        if self.palette == VARIED:
            times, colours = np.exp(0.7 * shifts[:3]), (60 * shifts[3:6], 60 * shifts[6:])
        else:
            named = _PALETTES[self.palette]
            times, colours = np.array(named[0]), (np.subtract(named[1], HORIZON), np.subtract(named[2], ZENITH))
        horizon[:], zenith[:] = np.clip(horizon + colours[0], 0, 255), np.clip(zenith + colours[1], 0, 255)
        return tint * times


def _sight(sky: np.ndarray, clear: bool) -> float:
    """Return the blocks up to which things are seen: where fog leaves less than one grey level of the brightest, no pixel shows one."""
    brightest = 255 * float(sky[kernels.DAYLIGHT])
    if brightest < 1:
        return 0.0
    if clear:
        # what a clear picture's fog hides is a fraction of a pixel wide, and recordings of clear worlds count it as seen
        return math.inf
    start, end = sky[[kernels.FOG_FROM, kernels.FOG_TO]].tolist()
    # the inverse of smoothstep, by which fog thickens
    return start + (end - start) * (0.5 - math.sin(math.asin(2 / brightest - 1) / 3))


def _check(option: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{option}='{value}': {nearest(str(value), known)}")
