"""A chain that is run and shown, by this process or by many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from dglke_distill.base.console import SafeConsole
from dglke_distill.cli.exits import resumable
from dglke_distill.cli.output import TrainingDisplay, chain_table, show_warnings, verdict_lines
from dglke_distill.cli.say import say
from dglke_distill.cli.tracked import tracked

if TYPE_CHECKING:
    from dglke_distill.distill.chain_config import ChainConfig
    from dglke_distill.distill.going_on import InitModel
    from dglke_distill.distill.stages import StageTrainer
    from dglke_distill.runs.workspace import Workspaces


def run_shown(
    chain: ChainConfig,
    directory: Path,
    resume: bool,
    loaded: Sequence[str],
    workspaces: Workspaces,
    track: Optional[str],
    init: Optional[InitModel] = None,
    trainer: Optional[StageTrainer] = None,
) -> None:
    """Run a chain, show it and its outcome, and write its report.

    Args:
        chain: the settings.
        directory: of the chain.
        resume: whether to go on with what is there.
        loaded: trained models in place of the teachers.
        workspaces: the prepared data.
        track: name of a tracker, if any.
        init: see ``run_chain``.
        trainer: see ``run_chain``.
    """
    from dglke_distill.distill.chain import CHAIN_FILE, run_chain
    from dglke_distill.distill.watcher import Watcher
    from dglke_distill.report import write_report
    from dglke_distill.search.control import SEARCHES

    console = SafeConsole()
    command = "dglke-distill run" if trainer is None else trainer.command
    with (
        resumable(command, directory / CHAIN_FILE),
        TrainingDisplay(console) as display,
        tracked(track, directory, chain.model_dump(mode="json"), display) as heard,
    ):
        results = run_chain(
            chain,
            directory,
            resume=resume,
            loaded=[Path(path) for path in loaded],
            workspaces=workspaces,
            watcher=Watcher(
                heard.stage_of(directory), heard.report, display.announce, heard.validated
            ),
            searches=SEARCHES,
            init=init,
            trainer=trainer,
        )
        page = write_report(directory)
    console.print(chain_table(results))
    for line in verdict_lines(results):
        say(line)
    show_warnings(results.data_warnings)
    say(f"report: {page}")
    if results.verdict is not None and results.verdict.sentence is not None:
        say(results.verdict.sentence)
