"""One bar for the steps of several jobs never goes back."""

from agents.cluster.board import Progress, TotalSteps


def test_a_job_that_goes_on_from_a_checkpoint_does_not_take_the_bar_back() -> None:
    shown: list[tuple[int, str | None]] = []
    total = TotalSteps(lambda amount, note=None, total=None: shown.append((amount, note)))
    for steps, note in ((100, "return 1.00"), (140, ""), (120, "starting"), (140, ""), (150, "return 2.00")):
        total(Progress(steps={"one": steps, "two": 10}, notes={"one": note}))
    assert shown == [(110, "return 1.00"), (40, None), (10, "return 2.00")]
