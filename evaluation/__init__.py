"""Judging a finished encoder: the contract of judges, the judges, and the command that has them judge."""

from typing import TYPE_CHECKING

from foundation.lazy import imports_on_demand

if TYPE_CHECKING:
    from evaluation.contract import check_judge as check_judge
    from evaluation.evaluation import Evaluation as Evaluation
    from evaluation.judge import Judge as Judge

_HOME = {"Evaluation": "evaluation", "Judge": "judge", "check_judge": "contract"}
__all__ = list(_HOME)
__getattr__ = imports_on_demand("evaluation", _HOME)
