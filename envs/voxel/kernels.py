"""All compiled code of the voxel world. One module, because numba's cache does not see edits in another file: with numba 0.68 a cached
function goes on calling the old code of one that it imports.

In the order in which one reads it; each region begins with a line of its name:

  NUMBERS    the world's cells, entries of the player and of the keys, Minecraft's constants
  THE BODY   collisions, and walking for one tick
  LANES      vectors of numbers, and the code of intrinsics that compute with them
  RAYS       casting rays side by side, and the block on the crosshair
  THE HANDS  breaking and placing blocks, with the free distances around them
  A TICK     all of that in turn; the nearest log
  PICTURES   the colours of sky and blocks, and a frame
  A WORLD    terrain, trees, and the free distances of all cells

The world is uint8 (X, Z, Y), a torus in x and z whose sides are powers of two; Y is 32. A cell below `AIR` holds a block.
A cell of air holds `AIR + 8 * (rise - 1) + (level - 1)`: how far around it all is free, so that a ray takes it in one stride.
`rise` is for rays that climb (a box from the cell upwards), `level` for the others (the cell's own layer); both count
cells to each side, the cell included, up to `STRIDE`.
Rays are cast and shaded `LANES` at a time by intrinsics that put vector instructions in place (LLVM splits them where the
processor has shorter ones). The arithmetic is IEEE's and unfused: a frame has the same bits whatever the vectors' length.
Axes are Minecraft's: x east, y up, z south; yaw 0 looks south and grows to the right, pitch grows downwards.
"""

import math
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

Array = np.ndarray

# NUMBERS

AIR = 128
STRIDE = 8
LAYERS = 32
"""Height of the world: a bit of an int32 each, see `measure_free_distances`."""

TILE = 4
LANES = TILE * TILE
"""Rays are cast side by side, a square tile of pixels at a time: a vector instruction moves several, and the rays of a
tile stop at about the same stride. Measured against 8, 32 and 64 lanes, and against rows of 16."""

WATER, OAK_LOG, LEAVES_OFFSET, BIRCH_LOG, DIAMOND, DIRT, GRASS, FLOWER, MUSHROOM = 5, 6, 1, 8, 10, 2, 1, 12, 13

# The player is one float64 vector; these are its entries.
X, Y, Z, VX, VY, VZ, YAW, PITCH, ON_GROUND, LOGS, DIRT_HELD, TOUCHED = range(12)
AIM_X, AIM_Y, AIM_Z, AIM_FACE, AIM_BLOCK, AIM_DISTANCE, PROGRESS, PLACE_WAIT = range(12, 20)
PLAYER_SIZE = 20

# The keys of an action are one int64 vector.
FORWARD, STRAFE, JUMP, SNEAK, SPRINT, ATTACK, PLACE = range(7)
KEYS = 7

HALF_WIDTH, HEIGHT, EYE, REACH = 0.3, 1.8, 1.62, 4.5
GRAVITY, DRAG, JUMP_SPEED = 0.08, 0.98, 0.42
GROUND_FRICTION, AIR_FRICTION = 0.546, 0.91
GROUND_PUSH, AIR_PUSH, SPRINT_FACTOR, SNEAK_FACTOR, INPUT = 0.1, 0.02, 1.3, 0.3, 0.98
PLACE_TICKS = 4
BUILD_LIMIT = 6
"""Free layers below the top of the world, so that an eye never leaves it."""
_EDGE = 1e-7
_NUDGE = 1e-6
_RADIANS = math.pi / 180

_compiled = partial(njit, cache=True, nogil=True, error_model="numpy")
_intrinsic: Any = intrinsic


# THE BODY


@_compiled("boolean(uint8[:,:,::1], int64, int64, int64)")
def is_solid(world: Array, x: int, y: int, z: int) -> bool:
    """Say whether a body collides with a cell; below the world everything is solid, above it nothing."""
    if y < 0:
        return True
    if y >= world.shape[2]:
        return False
    mask = world.shape[0] - 1
    cell = world[x & mask, z & mask, y]
    return cell < AIR and cell != WATER


@_compiled("boolean(uint8[:,:,::1], float64, float64, float64, float64, float64, float64)")
def _any_solid(world: Array, x0: float, y0: float, z0: float, x1: float, y1: float, z1: float) -> bool:
    for x in range(math.floor(x0 + _EDGE), math.floor(x1 - _EDGE) + 1):
        for z in range(math.floor(z0 + _EDGE), math.floor(z1 - _EDGE) + 1):
            for y in range(math.floor(y0 + _EDGE), math.floor(y1 - _EDGE) + 1):
                if is_solid(world, x, y, z):
                    return True
    return False


@_compiled("boolean(uint8[:,:,::1], float64, float64, float64)")
def _fits(world: Array, x: float, y: float, z: float) -> bool:
    return not _any_solid(world, x - HALF_WIDTH, y, z - HALF_WIDTH, x + HALF_WIDTH, y + HEIGHT, z + HALF_WIDTH)


@_compiled("float64(uint8[:,:,::1], float64[::1], int64, float64)")
def _move_axis(world: Array, player: Array, axis: int, distance: float) -> float:
    """Move the player's box along one axis up to the first block in the way; return the distance moved.

    The way is taken in strides below one block's size, so that no fall passes through a floor.
    """
    below, above = (0.0, HEIGHT) if axis == Y else (HALF_WIDTH, HALF_WIDTH)
    left = distance
    while left != 0.0:
        step = min(max(left, -0.5), 0.5)
        start = player[axis]
        player[axis] = start + step
        if not _fits(world, player[X], player[Y], player[Z]):
            if step > 0:
                stop = math.floor(start + above - _EDGE) + 1.0 - above
                player[axis] = max(start, stop)
            else:
                stop = math.floor(start - below + _EDGE) + below
                player[axis] = min(start, stop)
            return distance - left + player[axis] - start
        left -= step
    return distance


@_compiled("float64(uint8[:,:,::1], float64[::1], int64, float64)")
def _kept_on_edge(world: Array, player: Array, axis: int, distance: float) -> float:
    """Shorten a sneaking player's step until there is still ground under it."""
    while distance != 0.0:
        x = player[X] + (distance if axis == X else 0.0)
        z = player[Z] + (distance if axis == Z else 0.0)
        if not _fits(world, x, player[Y] - 0.5, z):
            return distance
        distance = 0.0 if abs(distance) < 0.05 else distance - math.copysign(0.05, distance)
    return distance


@_compiled("void(float64[::1], int64[::1])")
def _push(player: Array, keys: Array) -> None:
    """Add what the keys ask for to the velocity (Minecraft's `moveFlying`)."""
    along, side = INPUT * keys[FORWARD], INPUT * keys[STRAFE]
    if keys[SNEAK]:
        along, side = along * SNEAK_FACTOR, side * SNEAK_FACTOR
    length = math.sqrt(along * along + side * side)
    if length == 0.0:
        return
    sprinting = keys[SPRINT] and keys[FORWARD] > 0 and not keys[SNEAK]
    push = (GROUND_PUSH if player[ON_GROUND] else AIR_PUSH) * (SPRINT_FACTOR if sprinting else 1.0) / max(length, 1.0)
    sine, cosine = math.sin(player[YAW] * _RADIANS), math.cos(player[YAW] * _RADIANS)
    player[VX] += push * (-sine * along - cosine * side)
    player[VZ] += push * (cosine * along - sine * side)


@_compiled("void(float64[::1], int64[::1])")
def _jump(player: Array, keys: Array) -> None:
    player[VY] = JUMP_SPEED
    if keys[SPRINT] and keys[FORWARD] > 0 and not keys[SNEAK]:
        player[VX] -= 0.2 * math.sin(player[YAW] * _RADIANS)
        player[VZ] += 0.2 * math.cos(player[YAW] * _RADIANS)


@_compiled("void(uint8[:,:,::1], float64[::1], int64[::1])")
def _walk(world: Array, player: Array, keys: Array) -> None:
    """Advance the body by one tick."""
    if keys[JUMP] and player[ON_GROUND]:
        _jump(player, keys)
    _push(player, keys)
    friction = GROUND_FRICTION if player[ON_GROUND] else AIR_FRICTION
    along_x, along_z = player[VX], player[VZ]
    if keys[SNEAK] and player[ON_GROUND]:
        along_x, along_z = _kept_on_edge(world, player, X, along_x), _kept_on_edge(world, player, Z, along_z)
    moved_y = _move_axis(world, player, Y, player[VY])
    player[ON_GROUND] = player[VY] < 0 and moved_y != player[VY]
    if moved_y != player[VY]:
        player[VY] = 0.0
    if _move_axis(world, player, X, along_x) != player[VX]:
        player[VX] = 0.0
    if _move_axis(world, player, Z, along_z) != player[VZ]:
        player[VZ] = 0.0
    player[VX] *= friction
    player[VZ] *= friction
    player[VY] = (player[VY] - GRAVITY) * DRAG


# LANES

# What a ray holds, each for all lanes together: entry e of lane k is at [e * LANES + k] of one float64 vector.
DX, DY, DZ, PER_X, PER_Y, PER_Z, DISTANCE, AXIS, BLOCK, RED, GREEN, BLUE = range(12)
RAYS_SIZE = 12 * LANES

_LONG, _INT, _DOUBLE = ir.IntType(64), ir.IntType(32), ir.DoubleType()
_INTS, _DOUBLES, _FLAGS = (ir.VectorType(kind, LANES) for kind in (_INT, _DOUBLE, ir.IntType(1)))


class _Lanes:
    """`LANES` numbers of one kind (float64, int32, flags) side by side, with Python's operators: what intrinsics compute with."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value
        self.is_float = value.type == _DOUBLES

    def _like(self, other: "_Lanes | float") -> ir.Value:
        return other.value if isinstance(other, _Lanes) else ir.Constant(self.value.type, [other] * LANES)

    def _do(self, float_name: str, int_name: str, other: "_Lanes | float") -> "_Lanes":
        operation = getattr(self.builder, float_name if self.is_float else int_name)
        return _Lanes(self.builder, operation(self.value, self._like(other)))

    def _compare(self, sign: str, other: "_Lanes | float") -> "_Lanes":
        compare = self.builder.fcmp_ordered if self.is_float else self.builder.icmp_signed
        return _Lanes(self.builder, compare(sign, self.value, self._like(other)))

    def _call(self, name: str) -> "_Lanes":
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.v{LANES}f64")
        return _Lanes(self.builder, self.builder.call(function, [self.value]))

    def __add__(self, other: "_Lanes | float") -> "_Lanes":
        return self._do("fadd", "add", other)

    def __sub__(self, other: "_Lanes | float") -> "_Lanes":
        return self._do("fsub", "sub", other)

    def __mul__(self, other: "_Lanes | float") -> "_Lanes":
        return self._do("fmul", "mul", other)

    def __truediv__(self, other: "_Lanes | float") -> "_Lanes":
        return self._do("fdiv", "", other)

    def __rsub__(self, other: float) -> "_Lanes":
        return _Lanes(self.builder, self._like(other)) - self

    def __rtruediv__(self, other: float) -> "_Lanes":
        return _Lanes(self.builder, self._like(other)) / self

    def __and__(self, other: "_Lanes | int") -> "_Lanes":
        return self._do("", "and_", other)

    def __or__(self, other: "_Lanes | int") -> "_Lanes":
        return self._do("", "or_", other)

    def __lshift__(self, other: "_Lanes | int") -> "_Lanes":
        return self._do("", "shl", other)

    def __rshift__(self, other: "_Lanes | int") -> "_Lanes":
        return self._do("", "lshr", other)

    def __invert__(self) -> "_Lanes":
        return _Lanes(self.builder, self.builder.not_(self.value))

    def __lt__(self, other: "_Lanes | float") -> "_Lanes":
        return self._compare("<", other)

    def __le__(self, other: "_Lanes | float") -> "_Lanes":
        return self._compare("<=", other)

    def __gt__(self, other: "_Lanes | float") -> "_Lanes":
        return self._compare(">", other)

    def equals(self, other: "_Lanes | float") -> "_Lanes":
        return self._compare("==", other)

    def choose(self, yes: "_Lanes | float", no: "_Lanes | float") -> "_Lanes":
        """Take `yes` where these flags are set and `no` elsewhere; two plain numbers become float64."""
        kind = next((choice.value.type for choice in (yes, no) if isinstance(choice, _Lanes)), _DOUBLES)
        chosen = [choice.value if isinstance(choice, _Lanes) else ir.Constant(kind, [choice] * LANES) for choice in (yes, no)]
        return _Lanes(self.builder, self.builder.select(self.value, *chosen))

    def least(self, other: "_Lanes | float") -> "_Lanes":
        return (self < other).choose(self, other)

    def most(self, other: "_Lanes | float") -> "_Lanes":
        return (self > other).choose(self, other)

    def magnitude(self) -> "_Lanes":
        return self._call("fabs")

    def root(self) -> "_Lanes":
        return self._call("sqrt")

    def floor(self) -> "_Lanes":
        return self._call("floor")

    def ints(self) -> "_Lanes":
        """Return the float64 lanes as int32, truncated."""
        return _Lanes(self.builder, self.builder.fptosi(self.value, _INTS))

    def floats(self) -> "_Lanes":
        """Return the int32 lanes (or flags, as 0 and 1) as float64."""
        convert = self.builder.uitofp if self.value.type == _FLAGS else self.builder.sitofp
        return _Lanes(self.builder, convert(self.value, _DOUBLES))


class _Code:
    """The code of one intrinsic under way: its arguments (of Numba's kinds) by name, and the entries of its `rays`."""

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any, names: str) -> None:
        self.builder = builder
        self.arguments = dict(zip(names.split(), arguments, strict=True))
        self.arrays = {
            name: context.make_array(kind)(context, builder, self.arguments[name])
            for name, kind in zip(names.split(), signature.args, strict=True)
            if isinstance(kind, types.Array)
        }

    def _fill(self, value: ir.Value) -> _Lanes:
        kind = ir.VectorType(value.type, LANES)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, _INT(0))
        return _Lanes(self.builder, self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(_INTS, [0] * LANES)))

    def number(self, name: str) -> _Lanes:
        """Return a float64 or int64 argument in all lanes, an integer as int32."""
        value = self.arguments[name]
        return self._fill(value if value.type == _DOUBLE else self.builder.trunc(value, _INT))

    def length(self, array: str, dimension: int = 0) -> _Lanes:
        """Return one dimension of an array in all lanes, as int32."""
        return self._fill(self.builder.trunc(cgutils.unpack_tuple(self.builder, self.arrays[array].shape)[dimension], _INT))

    def item(self, array: str, index: int) -> _Lanes:
        """Return one number of a float64 vector in all lanes."""
        return self._fill(self.builder.load(self.builder.gep(self.arrays[array].data, [_LONG(index)])))

    def _entry(self, entry: int) -> ir.Value:
        return self.builder.bitcast(self.builder.gep(self.arrays["rays"].data, [_LONG(entry * LANES)]), _DOUBLES.as_pointer())

    def load(self, entry: int) -> _Lanes:
        value = self.builder.load(self._entry(entry))
        value.align = 8
        return _Lanes(self.builder, value)

    def store(self, entry: int, lanes: _Lanes) -> None:
        self.builder.store(lanes.value, self._entry(entry), align=8)

    def gather(self, array: str, index: _Lanes, wanted: _Lanes) -> _Lanes:
        """Return the bytes of a uint8 array at the flat indices as int32, 0 where not wanted.

        Processors gather words, not bytes: the word that holds the byte is read, so the array has a multiple of 4 bytes.
        """
        builder = self.builder
        start = self._fill(builder.ptrtoint(self.arrays[array].data, _LONG))
        offset = builder.zext((index & ~3).value, start.value.type)
        pointers = ir.VectorType(_INT.as_pointer(), LANES)
        kind = ir.FunctionType(_INTS, [pointers, _INT, _FLAGS, _INTS])
        read = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.gather.v{LANES}i32.v{LANES}p0")
        at = builder.inttoptr(builder.add(start.value, offset), pointers)
        word = _Lanes(builder, builder.call(read, [at, _INT(4), wanted.value, ir.Constant(_INTS, [0] * LANES)]))
        return (word >> ((index & 3) << 3)) & 255

    def any(self, flags: _Lanes) -> ir.Value:
        """Return, as an argument of Numba's, whether a flag is set."""
        bits = self.builder.bitcast(flags.value, ir.IntType(LANES))
        return self.builder.icmp_unsigned("!=", bits, bits.type(0))


# RAYS


@_intrinsic
def _advance(_: Any, world: Any, rays: Any, ox: Any, oy: Any, oz: Any, far: Any, ceiling: Any, ignored: Any) -> Any:
    """Take every ray under way by one stride, or end it in the block that it has met; say whether any is still under way.

    A ray that comes to `far`, or climbs above `ceiling`, has met nothing: its BLOCK stays 0. `ignored` is a block that
    rays pass. `ox` and `oz` are far enough from 0 for truncation to be a floor. AXIS tells across which axis the ray
    came into its cell.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        code = _Code(context, builder, signature, arguments, "world rays ox oy oz far ceiling ignored")
        ox, oy, oz, far, ceiling, ignored = map(code.number, ("ox", "oy", "oz", "far", "ceiling", "ignored"))
        size = code.length("world")
        dx, dy, dz, per_x, per_y, per_z, distance, axis, block = map(code.load, range(DX, BLOCK + 1))
        x, y, z = (ox + distance * dx).ints(), (oy + distance * dy).floor().ints(), (oz + distance * dz).ints()
        climbs = dy > 0.0
        going = (distance < far) & (y > -1) & (y <= climbs.choose(ceiling, LAYERS - 1)) & block.equals(0.0)
        cell = code.gather("world", ((x & (size - 1)) * size + (z & (size - 1))) * LAYERS + y, going)
        solid = cell < AIR
        met = going & solid & (distance > 0.0) & ~cell.equals(ignored)
        free = solid.choose(0.0, (climbs.choose(cell >> 3, cell) & 7).floats())
        rise = climbs.floats()
        # no branch on the axis: this function is what a frame costs
        tx = (x.floats() + (dx > 0.0).floats() - ox) * per_x + free * per_x.magnitude()
        ty = (y.floats() + rise - oy) * per_y + free * rise * per_y
        tz = (z.floats() + (dz > 0.0).floats() - oz) * per_z + free * per_z.magnitude()
        across = ((tx <= ty) & (tx <= tz)).choose(0.0, (ty <= tz).choose(1.0, 2.0))
        going = going & ~met
        code.store(DISTANCE, going.choose(tx.least(ty).least(tz) + _NUDGE, distance))
        code.store(AXIS, going.choose(across, axis))
        code.store(BLOCK, met.choose(cell.floats(), block))
        return code.any(going)

    return types.boolean(world, rays, *[types.float64] * 4, types.int64, types.int64), generate


@_compiled("void(float64[::1], int64, float64, float64, float64)", forceinline=True)
def _start_ray(rays: Array, lane: int, dx: float, dy: float, dz: float) -> None:
    # a direction's least part is large enough for `_NUDGE` to move a ray off any boundary
    dx = dx if abs(dx) > 1e-6 else 1e-6
    dy = dy if abs(dy) > 1e-6 else 1e-6
    dz = dz if abs(dz) > 1e-6 else 1e-6
    rays[DX * LANES + lane], rays[DY * LANES + lane], rays[DZ * LANES + lane] = dx, dy, dz
    rays[PER_X * LANES + lane], rays[PER_Y * LANES + lane], rays[PER_Z * LANES + lane] = 1.0 / dx, 1.0 / dy, 1.0 / dz
    rays[DISTANCE * LANES + lane] = rays[AXIS * LANES + lane] = rays[BLOCK * LANES + lane] = 0.0


@_compiled("void(uint8[:,:,::1], float64[::1])")
def aim(world: Array, player: Array) -> None:
    """Find the block on the crosshair; breaking starts anew when it is another one than before."""
    size = world.shape[0]
    yaw, pitch = player[YAW] * _RADIANS, player[PITCH] * _RADIANS
    dx, dy, dz = -math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)
    ox, oy, oz = player[X] % size + size, player[Y] + EYE, player[Z] % size + size
    rays = np.empty(RAYS_SIZE)
    for lane in range(LANES):
        _start_ray(rays, lane, dx, dy, dz)
    while _advance(world, rays, ox, oy, oz, REACH, LAYERS - 1, WATER):
        pass
    block, axis, distance = int(rays[BLOCK * LANES]), int(rays[AXIS * LANES]), min(rays[DISTANCE * LANES], REACH)
    dx, dy, dz = rays[DX * LANES], rays[DY * LANES], rays[DZ * LANES]
    face = 2 * axis + int((dx, dy, dz)[axis] > 0)
    x, y, z = int(ox + distance * dx) & (size - 1), math.floor(oy + distance * dy), int(oz + distance * dz) & (size - 1)
    if block == 0 or x != player[AIM_X] or y != player[AIM_Y] or z != player[AIM_Z]:
        player[PROGRESS] = 0.0
    player[AIM_X], player[AIM_Y], player[AIM_Z] = x, y, z
    player[AIM_BLOCK], player[AIM_FACE], player[AIM_DISTANCE] = block, face, distance


# THE HANDS


@_compiled("void(uint8[:,:,::1], uint8[:,::1], int64, int64, int64)")
def _clear(world: Array, top: Array, x: int, y: int, z: int) -> None:
    """Turn a block into air; its free distances follow from its neighbours'."""
    mask, height = world.shape[0] - 1, world.shape[2]
    rise = level = np.int64(STRIDE)
    for i in range(-1, 2):
        for k in range(-1, 2):
            for j in range(y, min(y + 2, height)):
                if i == 0 and k == 0 and j == y:
                    continue
                cell = np.int64(world[(x + i) & mask, (z + k) & mask, j])
                rise = min(rise, np.int64(2) + ((cell >> 3) & 7) if cell >= AIR else np.int64(1))
                if j == y:
                    level = min(level, np.int64(2) + (cell & 7) if cell >= AIR else np.int64(1))
    world[x, z, y] = AIR + 8 * (rise - 1) + level - 1
    while top[x, z] > 0 and world[x, z, top[x, z]] >= AIR:
        top[x, z] -= 1


@_compiled("void(uint8[:,:,::1], uint8[:,::1], int64, int64, int64, uint8)")
def put_block(world: Array, top: Array, x: int, y: int, z: int, block: int) -> None:
    """Put a block in place of air and shorten the strides of the cells below and around it."""
    mask = world.shape[0] - 1
    world[x & mask, z & mask, y] = block
    top[x & mask, z & mask] = max(top[x & mask, z & mask], y)
    for i in range(1 - STRIDE, STRIDE):
        for k in range(1 - STRIDE, STRIDE):
            side = max(abs(i), abs(k))
            for j in range(max(y + 1 - STRIDE, 0), y + 1):
                cell: Any = np.int64(world[(x + i) & mask, (z + k) & mask, j])
                if cell >= AIR:
                    rise = min(1 + ((cell >> 3) & 7), max(side, y - j))
                    level = min(1 + (cell & 7), side) if j == y else 1 + (cell & 7)
                    world[(x + i) & mask, (z + k) & mask, j] = AIR + 8 * (rise - 1) + level - 1


@_compiled("int64(uint8[:,:,::1], uint8[:,::1], float64[::1], float64[::1])")
def _attack(world: Array, top: Array, player: Array, break_ticks: Array) -> int:
    """Work on the block on the crosshair; return its number if it broke, else 0."""
    block = int(player[AIM_BLOCK])
    if block == 0:
        return 0
    player[PROGRESS] += 1.0 / break_ticks[block]
    if player[PROGRESS] < 1.0 - _EDGE:
        return 0
    _clear(world, top, int(player[AIM_X]), int(player[AIM_Y]), int(player[AIM_Z]))
    if block in (OAK_LOG, BIRCH_LOG):
        player[LOGS] += 1
    elif block in (DIRT, GRASS):
        player[DIRT_HELD] += 1
    player[PROGRESS] = 0.0
    return block


@_compiled("void(uint8[:,:,::1], uint8[:,::1], float64[::1])")
def _place(world: Array, top: Array, player: Array) -> None:
    """Put a held block of dirt against the face on the crosshair, unless the player stands there."""
    if player[AIM_BLOCK] == 0 or player[DIRT_HELD] == 0 or player[PLACE_WAIT] > 0:
        return
    mask, height = world.shape[0] - 1, world.shape[2]
    face = int(player[AIM_FACE])
    step = 1 if face % 2 == 0 else -1
    x = (int(player[AIM_X]) + (step if face < 2 else 0)) & mask
    y = int(player[AIM_Y]) + (step if face // 2 == 1 else 0)
    z = (int(player[AIM_Z]) + (step if face >= 4 else 0)) & mask
    if y < 0 or y >= height - BUILD_LIMIT or is_solid(world, x, y, z):
        return
    before = world[x, z, y]
    world[x, z, y] = DIRT
    if not _fits(world, player[X], player[Y], player[Z]):
        world[x, z, y] = before
        return
    put_block(world, top, x, y, z, DIRT)
    player[DIRT_HELD] -= 1
    player[PLACE_WAIT] = PLACE_TICKS


@_compiled("int64(uint8[:,:,::1], float64[::1], int64, int64, int64[::1])")
def _touch(world: Array, player: Array, first: int, last: int, place: Array) -> int:
    """Return the number of a block from `first` to `last` that the body touches, and its `place` (x, y, z); 0 where there is none."""
    mask, near = world.shape[0] - 1, HALF_WIDTH + 0.05
    for x in range(math.floor(player[X] - near), math.floor(player[X] + near) + 1):
        for z in range(math.floor(player[Z] - near), math.floor(player[Z] + near) + 1):
            for y in range(max(math.floor(player[Y] - 0.05), 0), min(math.floor(player[Y] + HEIGHT) + 1, world.shape[2])):
                if first <= world[x & mask, z & mask, y] <= last:
                    place[0], place[1], place[2] = x & mask, y, z & mask
                    return int(world[x & mask, z & mask, y])
    return 0


@_compiled("int64(uint8[:,:,::1], float64[::1], int64, int64)")
def touched_block(world: Array, player: Array, first: int, last: int) -> int:
    """Return the number of a block from `first` to `last` that the body touches, 0 where there is none."""
    return _touch(world, player, first, last, np.empty(3, np.int64))


@_compiled("int64(uint8[:,:,::1], uint8[:,::1], float64[::1])")
def pick_plants(world: Array, top: Array, player: Array) -> int:
    """Take away the plants that the body touches; return how many more flowers than mushrooms there were."""
    place, worth = np.empty(3, np.int64), 0
    plant = _touch(world, player, FLOWER, MUSHROOM, place)
    if plant == 0:
        return 0
    while plant != 0:
        worth += 1 if plant == FLOWER else -1
        _clear(world, top, place[0], place[1], place[2])
        plant = _touch(world, player, FLOWER, MUSHROOM, place)
    aim(world, player)
    return worth


# A TICK


@_compiled("int64(uint8[:,:,::1], uint8[:,::1], float64[::1], float64[::1], int64[::1], float64, float64)")
def tick(world: Array, top: Array, player: Array, break_ticks: Array, keys: Array, pitch: float, yaw: float) -> int:
    """Advance the player and the world by one tick of 1/20 s: turn by (pitch, yaw) degrees, walk, then attack or place.

    Returns the number of the block that broke, 0 where none did.
    """
    broken = 0
    player[YAW] = (player[YAW] + yaw + 180.0) % 360.0 - 180.0
    player[PITCH] = min(max(player[PITCH] + pitch, -90.0), 90.0)
    player[PLACE_WAIT] = max(player[PLACE_WAIT] - 1.0, 0.0)
    _walk(world, player, keys)
    aim(world, player)
    if keys[ATTACK]:
        broken = _attack(world, top, player, break_ticks)
        if broken != 0:
            aim(world, player)
    else:
        player[PROGRESS] = 0.0
    if keys[PLACE]:
        _place(world, top, player)
    if touched_block(world, player, DIAMOND, DIAMOND) != 0:
        player[TOUCHED] = 1.0
    return broken


@_compiled("int64(uint8[:,:,::1], int32[:,::1], float64[::1])")
def nearest_block(world: Array, places: Array, player: Array) -> int:
    """Return the row of `places` (N, 3: x, y, z) nearest to the eye where there is still a block, or -1."""
    size = world.shape[0]
    px, py, pz = player[X] % size - 0.5, player[Y] + EYE - 0.5, player[Z] % size - 0.5
    best, row = 1e18, -1
    for i in range(places.shape[0]):
        dx, dz = abs(places[i, 0] - px), abs(places[i, 2] - pz)
        dx, dy, dz = min(dx, size - dx), places[i, 1] - py, min(dz, size - dz)
        distance = dx * dx + dy * dy + dz * dz
        if distance < best and world[places[i, 0], places[i, 2], places[i, 1]] < AIR:
            best, row = distance, i
    return row


# PICTURES

# Entries of the vector that describes the sky: brightness of the day, colours (0 to 255) and the clouds' drift in blocks.
DAYLIGHT, HORIZON, ZENITH, DRIFT = 0, 1, 4, 7
SKY_SIZE = 8
# Two more that weather changes, in blocks: where fog begins, and where it is all that one sees.
FOG_FROM, FOG_TO = 8, 9
LOOK_SIZE = 10
FIELD_OF_VIEW = 70.0
CLOUD_HEIGHT, CLOUD_SIZE = 70.0, 9.0
STREAKS = 70
SHADOW = 0.68
"""Brightness of what lies below leaves or earth."""
NOTHING = 255
"""The kind of a pixel that shows no block: sky, or fog alone."""
# Entries of the vector that tells which block of the target's kind is seen nearest: its distance, inf for none, and its place.
SEEN_DISTANCE, SEEN_X, SEEN_Y, SEEN_Z = range(4)
SEEN_SIZE = 4


def _sky_colour(code: _Code, ox: _Lanes, oz: _Lanes) -> list[_Lanes]:
    """Return the colour (red, green, blue) of rays that met nothing: a gradient to the zenith, and drifting clouds."""
    dx, dy, dz = code.load(DX), code.load(DY), code.load(DZ)
    slope = dy / (dx * dx + dy * dy + dz * dz).root()
    rise = (slope * 2.2).most(0.0).least(1.0)
    along, mask = CLOUD_HEIGHT / dy, code.length("clouds") - 1
    column = ((ox + along * dx + code.item("sky", DRIFT)) / CLOUD_SIZE + 1024.0).ints() & mask
    row = ((oz + along * dz) / CLOUD_SIZE + 1024.0).ints() & mask
    cloud = code.gather("clouds", column * (mask + 1) + row, slope > 0.06).floats() * ((slope - 0.06) * 4.0).least(0.8)
    colours = []
    for c in range(3):
        horizon, zenith = code.item("sky", HORIZON + c), code.item("sky", ZENITH + c)
        colour = horizon + (zenith - horizon) * rise
        colours.append((colour + (236.0 - colour) * cloud) * code.item("sky", DAYLIGHT))
    return colours


def _face_light(code: _Code, x: _Lanes, y: _Lanes, z: _Lanes, inwards: _Lanes, met: _Lanes) -> _Lanes:
    """Return the brightness of the faces that rays met: Minecraft's factor for the direction, less in the shade.

    `inwards` says which rays go up their axis: those meet the west, bottom or north of a block.
    """
    size, axis = code.length("top"), code.load(AXIS)
    is_x, is_y = axis.equals(0.0), axis.equals(1.0)
    beside = inwards.choose(-1.0, 1.0).ints()
    before_x = is_x.choose(x + beside, x) & (size - 1)
    before_z = axis.equals(2.0).choose(z + beside, z) & (size - 1)
    roof = code.gather("top", before_x * size + before_z, met)
    shaded = (y < roof) | (is_y & inwards)
    factor = is_x.choose(0.6, is_y.choose(inwards.choose(0.5, 1.0), 0.8))
    return shaded.choose(factor * SHADOW, factor)


def _block_colour(code: _Code, ox: _Lanes, oy: _Lanes, oz: _Lanes, met: _Lanes) -> list[_Lanes]:
    """Return the colour (red, green, blue) of rays that met a block: its texture, light and cracks, behind fog."""
    dx, dy, dz, distance, axis, block = map(code.load, (DX, DY, DZ, DISTANCE, AXIS, BLOCK))
    px, py, pz = ox + distance * dx, oy + distance * dy, oz + distance * dz
    x, y, z = px.floor().ints(), py.floor().ints(), pz.floor().ints()
    fx, fy, fz = px - px.floor(), py - py.floor(), pz - pz.floor()
    is_x, is_y = axis.equals(0.0), axis.equals(1.0)
    inwards = is_x.choose(dx, is_y.choose(dy, dz)) > 0.0
    row, column = is_y.choose(fz, 1.0 - fy), is_x.choose(fz, fx)
    texel = (row * 16.0).ints().least(15) * 16 + (column * 16.0).ints().least(15)
    light, mask = _face_light(code, x, y, z, inwards, met), code.length("top") - 1
    aimed = met & y.equals(code.number("aim_y")) & (x & mask).equals(code.number("aim_x")) & (z & mask).equals(code.number("aim_z"))
    light = light * (1.0 - code.gather("cracks", code.number("stage") * 256 + texel, aimed).floats() / 255.0)
    detail = code.number("detail")
    level = ((distance > detail).floats() + (distance > detail * 2.0).floats() + (distance > detail * 4.0).floats()).ints()
    tile = code.gather("tiles", (block * 6.0 + axis * 2.0 + inwards.floats()).ints(), met)
    first = ((tile * code.length("atlas", 1) + level) * 256 + texel) * 3
    start = code.item("sky", FOG_FROM)
    fog = ((distance - start) / (code.item("sky", FOG_TO) - start)).most(0.0).least(1.0)
    fog = fog * fog * (3.0 - fog * 2.0)
    own, mist = light * (1.0 - fog) * code.item("sky", DAYLIGHT), fog * code.item("sky", DAYLIGHT)
    return [code.gather("atlas", first + c, met).floats() * own + code.item("sky", HORIZON + c) * mist for c in range(3)]


@_intrinsic
def _shade(
    _: Any, top: Any, rays: Any, ox: Any, oy: Any, oz: Any, atlas: Any, tiles: Any, cracks: Any, clouds: Any, sky: Any,
    aim_x: Any, aim_y: Any, aim_z: Any, stage: Any, detail: Any,
) -> Any:  # fmt: skip
    """Colour the rays by what they met: RED, GREEN and BLUE from 0 to 255.

    The block at `aim` shows the cracks of `stage`. Textures lose detail at the distances `detail`, twice and four times it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        names = "top rays ox oy oz atlas tiles cracks clouds sky aim_x aim_y aim_z stage detail"
        code = _Code(context, builder, signature, arguments, names)
        ox, oy, oz = map(code.number, ("ox", "oy", "oz"))
        met = code.load(BLOCK) > 0.0
        with builder.if_then(code.any(met)):
            for c, colour in enumerate(_block_colour(code, ox, oy, oz, met)):
                code.store(RED + c, colour)
        with builder.if_then(code.any(~met)):
            for c, colour in enumerate(_sky_colour(code, ox, oz)):
                code.store(RED + c, met.choose(code.load(RED + c), colour))
        return context.get_dummy_value()

    return types.void(top, rays, *[types.float64] * 3, atlas, tiles, cracks, clouds, sky, *[types.int64] * 4, types.float64), generate


@_intrinsic
def _meets(_: Any, rays: Any, target: Any, other: Any) -> Any:
    """Say whether any ray has met a block of one of two kinds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        code = _Code(context, builder, signature, arguments, "rays target other")
        block = code.load(BLOCK)
        return code.any(block.equals(code.number("target").floats()) | block.equals(code.number("other").floats()))

    return types.boolean(rays, types.int64, types.int64), generate


@_compiled("void(float64[::1], int64, int64, float64, float64, float64, int64, float64, float64[::1])")
def _see(rays: Array, target: int, other: int, ox: float, oy: float, oz: float, mask: int, sight: float, seen: Array) -> None:
    """Keep the nearest block of one of two kinds that rays have met, if it is nearer than the one `seen` so far.

    What lies deeper in the picture than `sight` is not seen: fog thickens with the depth, not with the way to a block.
    """
    for lane in range(LANES):
        block, along = int(rays[BLOCK * LANES + lane]), rays[DISTANCE * LANES + lane]
        if block not in (target, other) or along > sight:
            continue
        dx, dy, dz = rays[DX * LANES + lane], rays[DY * LANES + lane], rays[DZ * LANES + lane]
        distance = along * math.sqrt(dx * dx + dy * dy + dz * dz)
        if distance < seen[SEEN_DISTANCE]:
            seen[SEEN_DISTANCE] = distance
            seen[SEEN_X], seen[SEEN_Z] = int(ox + along * dx) & mask, int(oz + along * dz) & mask
            seen[SEEN_Y] = math.floor(oy + along * dy)


@_compiled("void(float64[::1], int64, int64, uint8[:,::1])")
def _note_kinds(rays: Array, first_i: int, first_j: int, kinds: Array) -> None:
    for lane in range(LANES):
        i, j = min(first_i + lane // TILE, kinds.shape[0] - 1), min(first_j + lane % TILE, kinds.shape[1] - 1)
        block = int(rays[BLOCK * LANES + lane])
        kinds[i, j] = block if block > 0 else NOTHING


@_compiled(
    "void(uint8[:,:,::1], uint8[:,::1], float64[::1], uint8[:,:,:,:,::1], uint8[:,::1],"
    " uint8[:,:,::1], uint8[:,::1], float64[::1], uint8[:,:,::1], uint8[:,::1], int64, int64, float64, float64[::1])"
)
def render(
    world: Array, top: Array, player: Array, atlas: Array, tiles: Array, cracks: Array, clouds: Array, sky: Array, frame: Array,
    kinds: Array, target: int, other: int, sight: float, seen: Array,
) -> None:  # fmt: skip
    """Draw what the player sees into `frame`, uint8 (H, W, 3).

    `atlas` holds the textures (tile, level of detail, 16, 16, 3), `tiles` the tile of each (block, face), `cracks` how
    far each texel darkens (stage, 16, 16), `clouds` a map of 0 and 1, `sky` the entries named above.
    `kinds` receives the number of the block that every pixel shows, uint8 (H, W), if it is not of size 0; `seen` the nearest block of
    the kinds `target` and `other` that the picture shows no deeper than `sight`.
    """
    height, width, size = frame.shape[0], frame.shape[1], world.shape[0]
    yaw, pitch = player[YAW] * _RADIANS, player[PITCH] * _RADIANS
    sy, cy, sp, cp = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    ox, oy, oz = player[X] % size + size, player[Y] + EYE, player[Z] % size + size
    scale = math.tan(FIELD_OF_VIEW / 2 * _RADIANS)
    detail = 6.0 * height / 64.0
    ceiling = max(np.int64(top.max()), np.int64(oy))
    aim_x, aim_y, aim_z = int(player[AIM_X]), int(player[AIM_Y]) if player[PROGRESS] > 0 else -1, int(player[AIM_Z])
    stage = int(player[PROGRESS] * cracks.shape[0])
    rays = np.empty(RAYS_SIZE)
    seen[SEEN_DISTANCE] = np.inf
    for first_i in range(0, height, TILE):
        for first_j in range(0, width, TILE):
            for lane in range(LANES):  # what lies beyond the frame repeats its last row or column
                i, j = min(first_i + lane // TILE, height - 1), min(first_j + lane % TILE, width - 1)
                up, right = scale * (1.0 - (2 * i + 1) / height), scale * ((2 * j + 1) / width - 1.0) * width / height
                dx, dz = -sy * cp - cy * right - sy * sp * up, cy * cp - sy * right + cy * sp * up
                _start_ray(rays, lane, dx, -sp + cp * up, dz)
            while _advance(world, rays, ox, oy, oz, sky[FOG_TO], ceiling, 0):
                pass
            _shade(top, rays, ox, oy, oz, atlas, tiles, cracks, clouds, sky, aim_x, aim_y, aim_z, stage, detail)
            for lane in range(LANES):
                i, j = min(first_i + lane // TILE, height - 1), min(first_j + lane % TILE, width - 1)
                for c in range(3):
                    frame[i, j, c] = int(rays[(RED + c) * LANES + lane])
            if kinds.shape[0] > 0:
                _note_kinds(rays, first_i, first_j, kinds)
            if _meets(rays, target, other):
                _see(rays, target, other, ox, oy, oz, size - 1, sight, seen)


@_compiled("void(uint8[:,:,::1], int64, float64)")
def rain(frame: Array, ticks: int, daylight: float) -> None:
    """Draw the streaks of rain at a tick over a frame, uint8 (H, W, 3): each falls in a column of its own, over and over."""
    height, width = frame.shape[0], frame.shape[1]
    wide, long = max(1, width // 128), max(2, height // 9)
    state = np.uint32(1)
    for _ in range(STREAKS):
        state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
        column, state = np.int64(state >> np.uint32(8)) % width, np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
        row = (np.int64(state >> np.uint32(8)) + ticks * (height * 3 // 11)) % (height + long) - long
        for i in range(max(row, 0), min(row + long, height)):
            for j in range(column, min(column + wide, width)):
                for c in range(3):
                    frame[i, j, c] = int(frame[i, j, c] * 0.6 + (168.0 + 14.0 * c) * daylight * 0.4)


# A WORLD


@_compiled("void(uint8[:,:,::1], uint8[:,::1], uint8[:,::1], uint8[:,::1], uint8[:,::1])")
def fill_terrain(world: Array, top: Array, heights: Array, surface: Array, filling: Array) -> None:
    """Fill each column with bedrock, stone, three blocks of `filling` and one of `surface` at `heights`; air above."""
    for x in range(world.shape[0]):
        for z in range(world.shape[1]):
            ground = heights[x, z]
            column = world[x, z]
            column[:] = AIR
            column[: max(ground - 3, 1)] = 3
            column[max(ground - 3, 1) : ground] = filling[x, z]
            column[ground] = surface[x, z]
            column[0] = 11
            top[x, z] = ground


@_compiled("void(uint8[:,:,::1], uint8[:,::1], int64, int64, int64, int64, int64, int64)")
def _grow_tree(world: Array, top: Array, x: int, ground: int, z: int, tall: int, log: int, corners: int) -> None:
    """Grow a trunk of `tall` logs and Minecraft's crown: two wide layers, two narrow ones, some corners missing."""
    mask = world.shape[0] - 1
    for layer in range(-3, 1):
        y = ground + 1 + tall + layer
        radius = 2 if layer < -1 else 1
        for i in range(-radius, radius + 1):
            for k in range(-radius, radius + 1):
                if abs(i) == radius and abs(k) == radius:
                    corners = (corners * 1103515245 + 12345) & 0x7FFFFFFF
                    if layer == 0 or (corners >> 16) & 1:
                        continue
                if world[(x + i) & mask, (z + k) & mask, y] >= AIR:
                    world[(x + i) & mask, (z + k) & mask, y] = log + LEAVES_OFFSET
                    top[(x + i) & mask, (z + k) & mask] = max(top[(x + i) & mask, (z + k) & mask], y)
    for y in range(ground + 1, ground + 1 + tall):
        world[x, z, y] = log


@_compiled("int64(uint8[:,:,::1], uint8[:,::1], uint8[:,::1], int32[:,::1], int64, int32[:,::1])")
def plant_trees(world: Array, top: Array, heights: Array, candidates: Array, gap: int, logs: Array) -> int:
    """Grow the candidate trees (N, 4: x, z, height, kind of log) that stand on grass and at least `gap` blocks apart.

    Writes the place of every log into `logs` (M, 3: x, y, z) and returns how many there are.
    """
    size, mask, count, roots = world.shape[0], world.shape[0] - 1, 0, 0
    taken = candidates.copy()
    for n in range(candidates.shape[0]):
        x, z, tall, log = candidates[n]
        free = world[x, z, heights[x, z]] == GRASS
        for m in range(roots):
            dx = (taken[m, 0] - x + size // 2) & mask
            dz = (taken[m, 1] - z + size // 2) & mask
            if abs(dx - size // 2) < gap and abs(dz - size // 2) < gap:
                free = False
                break
        if not free:
            continue
        taken[roots, 0], taken[roots, 1] = x, z
        roots += 1
        ground = int(heights[x, z])
        _grow_tree(world, top, x, ground, z, tall, log, x * 7919 + z * 104729 + tall)
        for step in range(tall):
            logs[count, 0], logs[count, 1], logs[count, 2] = x, ground + 1 + step, z
            count += 1
    return count


@_compiled("void(uint32[:,::1], uint32[:,::1])")
def _erode(free: Array, spare: Array) -> None:
    """Keep of each column's free cells (a bit a cell) those that are free in all eight columns around too."""
    mask = free.shape[0] - 1
    for x in range(free.shape[0]):
        before, after = free[(x - 1) & mask], free[(x + 1) & mask]
        for z in range(free.shape[1]):
            spare[x, z] = before[z] & free[x, z] & after[z]
    for x in range(free.shape[0]):
        for z in range(free.shape[1]):
            free[x, z] = spare[x, (z - 1) & mask] & spare[x, z] & spare[x, (z + 1) & mask]


@_compiled("void(uint8[:,:,::1], uint32[:,::1], uint8)")
def _add_bits(world: Array, free: Array, amount: int) -> None:
    """Add `amount` to every cell whose bit is set."""
    for x in range(world.shape[0]):
        for z in range(world.shape[1]):
            column, bits = world[x, z], free[x, z]
            if bits != 0:
                for y in range(world.shape[2]):
                    column[y] += np.uint8((bits >> np.uint32(y)) & np.uint32(1)) * amount


@_compiled("void(uint8[:,:,::1])")
def measure_free_distances(world: Array) -> None:
    """Write into each cell of air how far the space around it is free, by eroding the free space layer by layer."""
    size, height = world.shape[0], world.shape[2]
    level, spare = np.zeros((size, size), np.uint32), np.empty((size, size), np.uint32)
    for x in range(size):
        for z in range(size):
            for y in range(height):
                if world[x, z, y] >= AIR:
                    level[x, z] |= np.uint32(1) << np.uint32(y)
                    world[x, z, y] = AIR
    rise = level.copy()
    for _ in range(STRIDE - 1):
        _erode(level, spare)
        _add_bits(world, level, 1)
        for x in range(size):
            for z in range(size):
                rise[x, z] &= (rise[x, z] >> np.uint32(1)) | np.uint32(0x80000000)
        _erode(rise, spare)
        _add_bits(world, rise, 8)
