"""Judges by name: those of this package, and those that other packages add."""

from importlib.metadata import EntryPoint, entry_points

from evaluation.judge import RESERVED, Judge
from foundation.errors import UserError, nearest

GROUP = "minerl_perception.judges"
BUILT_IN = [
    EntryPoint("reconstruction", "evaluation.judges.reconstruction:Reconstruction", GROUP),
    EntryPoint("pictures", "evaluation.judges.pictures:Pictures", GROUP),
    EntryPoint("hierarchy", "evaluation.judges.hierarchy:Hierarchy", GROUP),
    EntryPoint("likelihood", "evaluation.judges.likelihood:Likelihood", GROUP),
    EntryPoint("memorisation", "evaluation.judges.memorisation:Memorisation", GROUP),
    EntryPoint("fid", "evaluation.judges.fid:FID", GROUP),
    EntryPoint("probes", "evaluation.judges.probes:Probes", GROUP),
    EntryPoint("value", "evaluation.judges.value:Value", GROUP),
    EntryPoint("masks", "evaluation.judges.masks:Masks", GROUP),
    EntryPoint("open_loop", "evaluation.judges.open_loop:OpenLoop", GROUP),
    EntryPoint("neighbours", "evaluation.judges.neighbours:Neighbours", GROUP),
    EntryPoint("clusters", "evaluation.judges.clusters:Clusters", GROUP),
    EntryPoint("projector", "evaluation.judges.projector:Projector", GROUP),
    EntryPoint("objects", "evaluation.judges.objects:Objects", GROUP),
    EntryPoint("slots", "evaluation.judges.slots:Slots", GROUP),
    EntryPoint("tracking", "evaluation.judges.tracking:Tracking", GROUP),
    EntryPoint("dci", "evaluation.judges.dci:DCI", GROUP),
]


def registered_judges() -> dict[str, Judge]:
    """Return all judges by name, in the order in which they judge; one of this package cannot be replaced."""
    built_in = {entry.name: entry for entry in BUILT_IN}
    added = {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in built_in}
    return {name: _load(entry) for name, entry in {**built_in, **dict(sorted(added.items()))}.items()}


def chosen_judges(names: tuple[str, ...], judges: dict[str, Judge]) -> dict[str, Judge]:
    """Return the judges named, in their own order, or all for no names; raise `UserError` for a name that is none's."""
    for name in names:
        if name not in judges:
            raise UserError(f"--judges {name}: {nearest(name, judges)}")
    return {name: judge for name, judge in judges.items() if not names or name in names}


def _load(entry: EntryPoint) -> Judge:
    try:
        kind = entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"the package that adds the judge '{entry.name}' cannot be imported: {error}; mend or uninstall it") from error
    if entry.name in RESERVED:
        raise UserError(f"the entry point '{entry.name}' of {GROUP}: the name is taken; choose another")
    if not (isinstance(kind, type) and issubclass(kind, Judge)) or getattr(kind, "name", None) != entry.name:
        raise UserError(f"the entry point '{entry.name}' of {GROUP} is no subclass of evaluation.Judge with that name")
    return kind()
