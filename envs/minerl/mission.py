"""From MineRL's mission XML to a task of the voxel world, or the reason why it has none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from envs.voxel import rules, tasks
from foundation.errors import UserError

STAND_INS = tuple(f"MineRL{task}{form}-v0" for task in ("Treechop", "Navigate", "NavigateDense") for form in ("", "VectorObf"))
"""The ids that the voxel world can play."""

LONGEST_XML = 1 << 20
"""Bytes. MineRL's own missions have five thousand."""
_SMALLEST, _LARGEST = 8, 1024

_LOGS = ("RewardForPossessingItem", "log", 1.0)
_GOAL = ("RewardForTouchingBlockType", "diamond_block", rules.GOAL_REWARD)
_PROGRESS = ("RewardForDistanceTraveledToCompassTarget", "", 1.0)
_TASKS = {
    frozenset({_LOGS}): "VoxelTreechop-v0",
    frozenset({_GOAL}): "VoxelNavigate-v0",
    frozenset({_GOAL, _PROGRESS}): "VoxelNavigateDense-v0",
}
_ENDS = {
    "VoxelTreechop-v0": {("AgentQuitFromPossessingItem", "log", float(rules.LOGS_TO_WIN))},
    "VoxelNavigate-v0": {("AgentQuitFromTouchingBlockType", "diamond_block", 0.0)},
    "VoxelNavigateDense-v0": {("AgentQuitFromTouchingBlockType", "diamond_block", 0.0)},
}


class MissionRefused(Exception):
    """The voxel world cannot play this mission; `str()` says what it lacks."""


@dataclass(frozen=True)
class Mission:
    """What the voxel world plays: a task, the side of the frame in pixels, the length in ticks, and whether the inventory is told."""

    task: str
    frame_size: int
    ticks: int
    tells_inventory: bool


def check_stand_in(task_id: str, xml: str) -> None:
    """Raise `UserError` where the voxel world cannot play a task; `xml` is its mission."""
    try:
        read_mission(xml.encode())
    except MissionRefused as refusal:
        raise UserError(f"server='voxel' cannot play {task_id}: {refusal}. It stands in for {', '.join(STAND_INS)}") from refusal


def read_mission(xml: bytes) -> Mission:
    """Read a `MissionInit` document; raises `MissionRefused` where the voxel world has no stand-in, or the XML is none.

    The task follows from what the mission rewards and what ends it, not from its name. No entity and no document type is read.
    """
    root = _parse(xml)
    rewards = {entry for element in root.iter() if element.tag.startswith("RewardFor") for entry in _rewarded(element)}
    task = _TASKS.get(frozenset(rewards))
    if task is None:
        raise MissionRefused(f"the voxel world has no task that rewards {_listed(rewards)}")
    ends = {entry for element in root.iter() if element.tag.startswith("AgentQuitFrom") for entry in _ending(element)}
    if ends != _ENDS[task]:
        raise MissionRefused(f"{task} ends with {_ENDS[task]}, the mission with {ends}")
    _check_start(root, task)
    return Mission(task, _frame_size(root), _ticks(root, task), _find(root, "ObservationFromFullInventory") is not None)


def _listed(rewards: set[tuple[str, str, float]], most: int = 4) -> str:
    names = sorted(f"{what} ({handler.removeprefix('RewardFor')}, {amount:g})" for handler, what, amount in rewards)
    return ", ".join(names[:most]) + (f" and {len(names) - most} things more" if len(names) > most else "") or "nothing"


def _parse(xml: bytes) -> Element:
    if len(xml) > LONGEST_XML:
        raise MissionRefused(f"the mission has {len(xml)} bytes of XML; at most {LONGEST_XML} are read")
    builder, parser = TreeBuilder(), expat.ParserCreate(namespace_separator=" ")

    def start(tag: str, attributes: dict[str, str]) -> None:
        builder.start(tag.rpartition(" ")[2], attributes)

    # expat resolves entities of a document type, and a document type can hold a billion of them
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(xml, True)
        return builder.close()
    except expat.ExpatError as error:
        raise MissionRefused(f"the mission is no XML: {error}") from error


def _refuse_document_type(*_: Any) -> NoReturn:
    raise MissionRefused("the mission has a document type; missions have none")


def _find(root: Element, tag: str) -> Element | None:
    return next(root.iter(tag), None)


def _number(read: Callable[[str], float], text: str | None, what: str) -> float:
    try:
        return read((text or "").strip())
    except ValueError:
        raise MissionRefused(f"{what} is {text!r}, which is no number") from None


def _rewarded(element: Element) -> list[tuple[str, str, float]]:
    if "rewardPerBlock" in element.attrib:
        return [(element.tag, "", _number(float, element.get("rewardPerBlock"), "rewardPerBlock"))]
    return [(element.tag, child.get("type", ""), _number(float, child.get("reward"), f"the reward of {element.tag}")) for child in element]


def _ending(element: Element) -> list[tuple[str, str, float]]:
    return [(element.tag, child.get("type", ""), _number(float, child.get("amount", "0"), "an amount")) for child in element]


def _check_start(root: Element, task: str) -> None:
    """Refuse a world and a start that the voxel world does not have."""
    if _find(root, "BiomeGenerator") is not None:
        raise MissionRefused("the voxel world has no biomes to choose from (Extreme tasks start in extreme hills)")
    start = _find(root, "AgentStart")
    held = {item.get("type") for item in root.iter("InventoryObject")}
    wanted = {"iron_axe"} if tasks.TASKS[task].axe else {"compass"}
    if held != wanted:
        raise MissionRefused(f"{task} starts with {wanted}, the mission with {held}")
    for element in start if start is not None else ():
        if element.tag != "Inventory":
            raise MissionRefused(f"the voxel world cannot begin with {element.tag}")


def _frame_size(root: Element) -> int:
    video = _find(root, "VideoProducer")
    if video is None or video.get("want_depth") == "true":
        raise MissionRefused("the voxel world sends pictures, and no depth")
    width, height = (int(_number(int, video.findtext(side), side)) for side in ("Width", "Height"))
    if width != height or not _SMALLEST <= width <= _LARGEST:
        raise MissionRefused(f"the voxel world draws squares of {_SMALLEST} to {_LARGEST} pixels, not {width} by {height}")
    return width


def _ticks(root: Element, task: str) -> int:
    limit, tick = _find(root, "ServerQuitFromTimeUp"), _find(root, "MsPerTick")
    if limit is None:
        return tasks.TASKS[task].ticks
    milliseconds = _number(int, limit.get("timeLimitMs"), "timeLimitMs")
    a_tick = 50 if tick is None else _number(int, tick.text, "MsPerTick")
    if a_tick <= 0 or milliseconds < a_tick:
        raise MissionRefused(f"a time limit of {milliseconds} ms with ticks of {a_tick} ms leaves no tick to play")
    return int(milliseconds // a_tick)
