"""A search from a command: what is checked, which trials run, what is said at the end."""

from collections.abc import Sequence

from agents.cluster.board import TotalSteps
from agents.run.environment import check_environment
from agents.run.representation import reading_line
from foundation.errors import shown
from foundation.progress import progress_bar, say, tell_result
from search.config import SearchConfig
from search.findings import again
from search.report import print_findings, write_search_report
from search.search import Search, Trial
from search.tuning import require_tune, run_trials


def run_search(config: SearchConfig, argv: Sequence[str]) -> int:
    """Run what is missing of a search and write its report, which names the command with the words `argv`; return the exit status."""
    require_tune()
    search = Search(config)
    # what cannot work is said before Ray starts and before the search's folder is made
    for settings in {repr(trial.settings.environment): trial.settings for trial in search.trials}.values():
        for environment in config.evaluation.worlds_of(settings.environment):
            check_environment(environment, settings.algorithm, config.control == "oracle")
    if config.encoder is not None:
        flat, history = config.algorithm.set_policy == "flat", config.environment.history
        say(reading_line(config.encoder, config.latents, config.scale, flat, history=history))
    with search.remembered():
        missing = search.open_trials()
        say(f"{len(search.trials)} trials, {len(search.trials) - len(missing)} of them done; {_pruning(search)}")
        if missing:
            total = config.steps * config.seeds * len(missing)
            with progress_bar("searching", total) as advance:
                received = run_trials(search, _show_trial, TotalSteps(advance))
            if received is not None:
                say(f"stopped; finished work is in {config.run}: run the same command again to resume")
                return 128 + received
        findings = write_search_report(search, argv)
    print_findings(findings, again(findings, argv))
    tell_result(f"wrote {config.run}: report.html, search.json, search.csv, scores.png, scores.svg, trials/")
    return 0 if findings.complete else 1


def _pruning(search: Search) -> str:
    if search.config.rungs:
        return f"ASHA may stop some after {', '.join(f'{rung:,}' for rung in search.config.rungs)} steps"
    if search.config.scheduler == "none":
        return "each does all steps"
    every = search.config.evaluation.every
    return f"each does all steps, for no evaluation (evaluation.every {every:,}) lies between the first rung and the last step"


def _show_trial(trial: Trial) -> None:
    record = trial.record()
    if record.ended == "failed":
        say(f"failed: trial {trial.key}: {shown(record.message)}", style="red")
    else:
        reached = record.scores[-1]
        say(f"trial {trial.key} {record.ended} at {reached.step:,} steps: mean return {reached.score:.2f}")
