"""Judging a finished encoder: the contract of judges, the judges, and the command that has them judge."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.contract import check_judge as check_judge
    from evaluation.evaluation import Evaluation as Evaluation
    from evaluation.judge import Judge as Judge

_HOME = {"Evaluation": "evaluation", "Judge": "judge", "check_judge": "contract"}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: only those who use it pay
    if name not in _HOME:
        raise AttributeError(f"module 'evaluation' has no attribute '{name}'")
    return getattr(importlib.import_module(f"evaluation.{_HOME[name]}"), name)
