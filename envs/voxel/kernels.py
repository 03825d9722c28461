"""All compiled code of the voxel world: one tick of physics, breaking and placing, the ray caster, and planting.

One module, because numba's cache does not see edits in another file.

The world is uint8 (X, Z, Y), a torus in x and z whose sides are powers of two; Y is 32. A cell below `AIR` holds a block.
A cell of air holds `AIR + 8 * (rise - 1) + (level - 1)`: how far around it all is free, so that a ray takes it in one stride.
`rise` is for rays that climb (a box from the cell upwards), `level` for the others (the cell's own layer); both count
cells to each side, the cell included, up to `STRIDE`.
Axes are Minecraft's: x east, y up, z south; yaw 0 looks south and grows to the right, pitch grows downwards.
"""

import math
from functools import partial

import numpy as np
from numba import njit

AIR = 128
STRIDE = 8

WATER, OAK_LOG, LEAVES_OFFSET, BIRCH_LOG, DIAMOND, DIRT, GRASS = 5, 6, 1, 8, 10, 2, 1

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
_inlined = partial(_compiled, forceinline=True)
"""For what runs once a pixel."""


@_compiled("boolean(uint8[:,:,::1], int64, int64, int64)")
def is_solid(world, x, y, z):
    """Say whether a body collides with a cell; below the world everything is solid, above it nothing."""
    if y < 0:
        return True
    if y >= world.shape[2]:
        return False
    mask = world.shape[0] - 1
    cell = world[x & mask, z & mask, y]
    return cell < AIR and cell != WATER


@_compiled("boolean(uint8[:,:,::1], float64, float64, float64, float64, float64, float64)")
def _any_solid(world, x0, y0, z0, x1, y1, z1):
    for x in range(math.floor(x0 + _EDGE), math.floor(x1 - _EDGE) + 1):
        for z in range(math.floor(z0 + _EDGE), math.floor(z1 - _EDGE) + 1):
            for y in range(math.floor(y0 + _EDGE), math.floor(y1 - _EDGE) + 1):
                if is_solid(world, x, y, z):
                    return True
    return False


@_compiled("boolean(uint8[:,:,::1], float64, float64, float64)")
def _fits(world, x, y, z):
    return not _any_solid(world, x - HALF_WIDTH, y, z - HALF_WIDTH, x + HALF_WIDTH, y + HEIGHT, z + HALF_WIDTH)


@_compiled("float64(uint8[:,:,::1], float64[::1], int64, float64)")
def _move_axis(world, player, axis, distance):
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
def _kept_on_edge(world, player, axis, distance):
    """Shorten a sneaking player's step until there is still ground under it."""
    while distance != 0.0:
        x = player[X] + (distance if axis == X else 0.0)
        z = player[Z] + (distance if axis == Z else 0.0)
        if not _fits(world, x, player[Y] - 0.5, z):
            return distance
        distance = 0.0 if abs(distance) < 0.05 else distance - math.copysign(0.05, distance)
    return distance


@_compiled("void(float64[::1], int64[::1])")
def _push(player, keys):
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
def _jump(player, keys):
    player[VY] = JUMP_SPEED
    if keys[SPRINT] and keys[FORWARD] > 0 and not keys[SNEAK]:
        player[VX] -= 0.2 * math.sin(player[YAW] * _RADIANS)
        player[VZ] += 0.2 * math.cos(player[YAW] * _RADIANS)


@_compiled("void(uint8[:,:,::1], float64[::1], int64[::1])")
def _walk(world, player, keys):
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


@_inlined("int64(float64, float64, float64, float64, float64, float64)")
def _face(dx, dy, dz, tx, ty, tz):
    """Return the face through which a ray came in, from where it last crossed each axis."""
    if tx <= ty and tx <= tz:
        return 1 if dx > 0 else 0
    if ty <= tz:
        return 3 if dy > 0 else 2
    return 5 if dz > 0 else 4


@_inlined(
    "Tuple((int64, int64, int64, int64, int64, float64))"
    "(uint8[:,:,::1], float64, float64, float64, float64, float64, float64, float64, int64, boolean)"
)
def _cast(world, ox, oy, oz, dx, dy, dz, far, ceiling, through_water):
    """Follow a ray through the grid to the first block: (block or 0, x, y, z, face, distance in lengths of the direction).

    A ray that climbs above `ceiling` meets nothing. `ox` and `oz` are far enough from 0 for truncation to be a floor.
    Faces: 0 east, 1 west, 2 top, 3 bottom, 4 south, 5 north.
    """
    mask = world.shape[0] - 1
    # a direction's least part is large enough for `_NUDGE` to move a ray off any boundary
    dx = dx if abs(dx) > 1e-6 else 1e-6
    dy = dy if abs(dy) > 1e-6 else 1e-6
    dz = dz if abs(dz) > 1e-6 else 1e-6
    per_x, per_y, per_z = 1.0 / dx, 1.0 / dy, 1.0 / dz
    side_x, side_z, climbs = 1.0 if dx > 0 else 0.0, 1.0 if dz > 0 else 0.0, dy > 0
    height = np.uint64(ceiling + 1 if climbs else world.shape[2])
    # which three bits of a cell of air count, and whether they count vertically too
    shift, vertical = (3, 1.0) if climbs else (0, 0.0)
    x, y, z = int(ox), int(oy), int(oz)
    tx, ty, tz, distance = 0.0, 0.0, 0.0, 0.0
    while distance < far and np.uint64(y) < height:
        cell = np.int64(world[np.uint64(x & mask), np.uint64(z & mask), np.uint64(y)])
        free = float((cell >> shift) & 7)
        if cell < AIR:
            if distance > 0.0 and not (through_water and cell == WATER):
                return cell, x, y, z, _face(dx, dy, dz, tx, ty, tz), distance
            free = 0.0
        # no branch on the axis: this loop is what a frame costs
        tx = (x + side_x - ox) * per_x + free * abs(per_x)
        ty = (y + vertical - oy) * per_y + free * vertical * per_y
        tz = (z + side_z - oz) * per_z + free * abs(per_z)
        distance = min(min(tx, ty), tz) + _NUDGE
        x, y, z = int(ox + distance * dx), math.floor(oy + distance * dy), int(oz + distance * dz)
    return 0, x, y, z, 2, far


@_compiled("void(uint8[:,:,::1], float64[::1])")
def aim(world, player):
    """Find the block on the crosshair; breaking starts anew when it is another one than before."""
    size = world.shape[0]
    yaw, pitch = player[YAW] * _RADIANS, player[PITCH] * _RADIANS
    dx, dy, dz = -math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)
    ox, oz = player[X] % size + size, player[Z] % size + size
    block, x, y, z, face, distance = _cast(world, ox, player[Y] + EYE, oz, dx, dy, dz, REACH, world.shape[2] - 1, True)
    x, z = x & (size - 1), z & (size - 1)
    if distance >= REACH:
        block = 0
    if block == 0 or x != player[AIM_X] or y != player[AIM_Y] or z != player[AIM_Z]:
        player[PROGRESS] = 0.0
    player[AIM_X], player[AIM_Y], player[AIM_Z] = x, y, z
    player[AIM_BLOCK], player[AIM_FACE], player[AIM_DISTANCE] = block, face, distance


@_compiled("void(uint8[:,:,::1], uint8[:,::1], int64, int64, int64)")
def _clear(world, top, x, y, z):
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
def put_block(world, top, x, y, z, block):
    """Put a block in place of air and shorten the strides of the cells below and around it."""
    mask = world.shape[0] - 1
    world[x & mask, z & mask, y] = block
    top[x & mask, z & mask] = max(top[x & mask, z & mask], y)
    for i in range(1 - STRIDE, STRIDE):
        for k in range(1 - STRIDE, STRIDE):
            side = max(abs(i), abs(k))
            for j in range(max(y + 1 - STRIDE, 0), y + 1):
                cell = np.int64(world[(x + i) & mask, (z + k) & mask, j])
                if cell >= AIR:
                    rise = min(1 + ((cell >> 3) & 7), max(side, y - j))
                    level = min(1 + (cell & 7), side) if j == y else 1 + (cell & 7)
                    world[(x + i) & mask, (z + k) & mask, j] = AIR + 8 * (rise - 1) + level - 1


@_compiled("void(uint8[:,:,::1], uint8[:,::1], float64[::1], float64[::1])")
def _attack(world, top, player, break_ticks):
    block = int(player[AIM_BLOCK])
    if block == 0:
        return
    player[PROGRESS] += 1.0 / break_ticks[block]
    if player[PROGRESS] < 1.0 - _EDGE:
        return
    _clear(world, top, int(player[AIM_X]), int(player[AIM_Y]), int(player[AIM_Z]))
    if block in (OAK_LOG, BIRCH_LOG):
        player[LOGS] += 1
    elif block in (DIRT, GRASS):
        player[DIRT_HELD] += 1
    aim(world, player)
    player[PROGRESS] = 0.0


@_compiled("void(uint8[:,:,::1], uint8[:,::1], float64[::1])")
def _place(world, top, player):
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


@_compiled("boolean(uint8[:,:,::1], float64[::1])")
def _touches_goal(world, player):
    mask, near = world.shape[0] - 1, HALF_WIDTH + 0.05
    for x in range(math.floor(player[X] - near), math.floor(player[X] + near) + 1):
        for z in range(math.floor(player[Z] - near), math.floor(player[Z] + near) + 1):
            for y in range(max(math.floor(player[Y] - 0.05), 0), min(math.floor(player[Y] + HEIGHT) + 1, world.shape[2])):
                if world[x & mask, z & mask, y] == DIAMOND:
                    return True
    return False


@_compiled("void(uint8[:,:,::1], uint8[:,::1], float64[::1], float64[::1], int64[::1], float64, float64)")
def tick(world, top, player, break_ticks, keys, pitch, yaw):
    """Advance the player and the world by one tick of 1/20 s: turn by (pitch, yaw) degrees, walk, then attack or place."""
    player[YAW] = (player[YAW] + yaw + 180.0) % 360.0 - 180.0
    player[PITCH] = min(max(player[PITCH] + pitch, -90.0), 90.0)
    player[PLACE_WAIT] = max(player[PLACE_WAIT] - 1.0, 0.0)
    _walk(world, player, keys)
    aim(world, player)
    if keys[ATTACK]:
        _attack(world, top, player, break_ticks)
    else:
        player[PROGRESS] = 0.0
    if keys[PLACE]:
        _place(world, top, player)
    if _touches_goal(world, player):
        player[TOUCHED] = 1.0


@_compiled("int64(uint8[:,:,::1], int32[:,::1], float64[::1])")
def nearest_log(world, logs, player):
    """Return the row of `logs` (N, 3: x, y, z) nearest to the eye that still stands, or -1."""
    size = world.shape[0]
    px, py, pz = player[X] % size - 0.5, player[Y] + EYE - 0.5, player[Z] % size - 0.5
    best, row = 1e18, -1
    for i in range(logs.shape[0]):
        dx, dz = abs(logs[i, 0] - px), abs(logs[i, 2] - pz)
        dx, dy, dz = min(dx, size - dx), logs[i, 1] - py, min(dz, size - dz)
        distance = dx * dx + dy * dy + dz * dz
        if distance < best and world[logs[i, 0], logs[i, 2], logs[i, 1]] < AIR:
            best, row = distance, i
    return row


# Entries of the vector that describes the sky: brightness of the day, colours (0 to 255) and the clouds' drift in blocks.
DAYLIGHT, HORIZON, ZENITH, DRIFT = 0, 1, 4, 7
SKY_SIZE = 8
FIELD_OF_VIEW = 70.0
FAR, FOG_START = 72.0, 24.0
CLOUD_HEIGHT, CLOUD_SIZE = 70.0, 9.0
SHADOW = 0.68
"""Brightness of what lies below leaves or earth."""


@_inlined("void(float64, float64, float64, float64, float64, uint8[:,::1], float64[::1], uint8[:,:,::1], int64, int64)")
def _paint_sky(ox, oz, dx, dy, dz, clouds, sky, frame, i, j):
    """Colour a ray that met nothing: a gradient from horizon to zenith, and drifting clouds that fade with distance."""
    slope = dy / math.sqrt(dx * dx + dy * dy + dz * dz)
    rise = min(max(slope * 2.2, 0.0), 1.0)
    cloud = 0.0
    if slope > 0.06:
        along = CLOUD_HEIGHT / dy
        column = int(1024.0 + (ox + along * dx + sky[DRIFT]) / CLOUD_SIZE) % clouds.shape[0]
        row = int(1024.0 + (oz + along * dz) / CLOUD_SIZE) % clouds.shape[1]
        cloud = clouds[column, row] * min((slope - 0.06) * 4.0, 0.8)
    for c in range(3):
        colour = sky[HORIZON + c] + (sky[ZENITH + c] - sky[HORIZON + c]) * rise
        frame[i, j, c] = int((colour + (236.0 - colour) * cloud) * sky[DAYLIGHT])


@_inlined("float64(uint8[:,::1], int64, int64, int64, int64)")
def _face_light(top, x, y, z, face):
    """Return the brightness of a block's face: Minecraft's factor for its direction, less in the shade."""
    mask = top.shape[0] - 1
    if face == 2:
        return 1.0 if y >= top[x & mask, z & mask] else SHADOW
    if face == 3:
        return 0.5 * SHADOW
    if face < 2:
        return 0.6 if y >= top[(x + 1 - 2 * face) & mask, z & mask] else 0.6 * SHADOW
    return 0.8 if y >= top[x & mask, (z + 9 - 2 * face) & mask] else 0.8 * SHADOW


@_inlined("Tuple((int64, int64))(float64, float64, float64, int64)")
def _texel(px, py, pz, face):
    """Return (row, column) in a 16x16 texture of a point on a block's face."""
    fx, fy, fz = px - math.floor(px), py - math.floor(py), pz - math.floor(pz)
    if face < 2:
        row, column = 1.0 - fy, fz
    elif face < 4:
        row, column = fz, fx
    else:
        row, column = 1.0 - fy, fx
    return min(int(row * 16.0), 15), min(int(column * 16.0), 15)


@_compiled(
    "void(uint8[:,:,::1], uint8[:,::1], float64[::1], uint8[:,:,:,:,::1], uint8[:,::1],"
    " uint8[:,:,::1], uint8[:,::1], float64[::1], uint8[:,:,::1])"
)
def render(world, top, player, atlas, tiles, cracks, clouds, sky, frame):
    """Draw what the player sees into `frame`, uint8 (H, W, 3).

    `atlas` holds the textures (tile, level of detail, 16, 16, 3), `tiles` the tile of each (block, face), `cracks` how
    far each texel darkens (stage, 16, 16), `clouds` a map of 0 and 1, `sky` the entries named above.
    """
    height, width, size = frame.shape[0], frame.shape[1], world.shape[0]
    yaw, pitch = player[YAW] * _RADIANS, player[PITCH] * _RADIANS
    sy, cy, sp, cp = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    ox, oy, oz = player[X] % size + size, player[Y] + EYE, player[Z] % size + size
    scale = math.tan(FIELD_OF_VIEW / 2 * _RADIANS)
    detail = 6.0 * height / 64.0
    ceiling = max(np.int64(top.max()), np.int64(oy))
    stage = int(player[PROGRESS] * cracks.shape[0]) if player[PROGRESS] > 0 else -1
    for i in range(height):
        up = scale * (1.0 - (2 * i + 1) / height)
        for j in range(width):
            right = scale * ((2 * j + 1) / width - 1.0) * width / height
            dx = -sy * cp - cy * right - sy * sp * up
            dy = -sp + cp * up
            dz = cy * cp - sy * right + cy * sp * up
            block, x, y, z, face, distance = _cast(world, ox, oy, oz, dx, dy, dz, FAR, ceiling, False)
            if block == 0:
                _paint_sky(ox, oz, dx, dy, dz, clouds, sky, frame, i, j)
                continue
            row, column = _texel(ox + distance * dx, oy + distance * dy, oz + distance * dz, face)
            light = _face_light(top, x, y, z, face)
            if stage >= 0 and y == player[AIM_Y] and x & (size - 1) == player[AIM_X] and z & (size - 1) == player[AIM_Z]:
                light *= 1.0 - cracks[stage, row, column] / 255.0
            level = int(distance > detail) + int(distance > 2 * detail) + int(distance > 4 * detail)
            tile = tiles[block, face]
            fog = min(max((distance - FOG_START) / (FAR - FOG_START), 0.0), 1.0)
            fog = fog * fog * (3.0 - 2.0 * fog)
            own, mist = light * (1.0 - fog) * sky[DAYLIGHT], fog * sky[DAYLIGHT]
            for c in range(3):
                frame[i, j, c] = int(atlas[tile, level, row, column, c] * own + sky[HORIZON + c] * mist)


@_compiled("void(uint8[:,:,::1], uint8[:,::1], uint8[:,::1], uint8[:,::1], uint8[:,::1])")
def fill_terrain(world, top, heights, surface, filling):
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
def _grow_tree(world, top, x, ground, z, tall, log, corners):
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
def plant_trees(world, top, heights, candidates, gap, logs):
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
def _erode(free, spare):
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
def _add_bits(world, free, amount):
    """Add `amount` to every cell whose bit is set."""
    for x in range(world.shape[0]):
        for z in range(world.shape[1]):
            column, bits = world[x, z], free[x, z]
            if bits != 0:
                for y in range(world.shape[2]):
                    column[y] += np.uint8((bits >> np.uint32(y)) & np.uint32(1)) * amount


@_compiled("void(uint8[:,:,::1])")
def measure_free_distances(world):
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
