"""`emotune push`."""

from shlex import quote
from typing import Annotated

import typer

from emotune.cli.options import JsonOption, ModelArgument, QuietOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json


@reported
def push(
    model: ModelArgument,
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The repository; it is made if it is missing.")
    ],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it [default: private].")] = False,
    branch: Annotated[str, typer.Option(help="The branch; it is made if it is missing.")] = "main",
    message: Annotated[
        str | None, typer.Option(help="The message of the commit [default: it names the model].")
    ] = None,
    with_onnx: Annotated[
        bool, typer.Option("--with-onnx", help="Add an export for ONNX Runtime, in the folder onnx.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files, and send nothing.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish a model on the Hugging Face hub.

    Sends the model with its manifest, its card with the scores of its evaluations, and their reports, in one commit.
    The model is verified first. Folders of this machine are cut from the card, and secrets are refused.

    Log in before: hf auth login, or HF_TOKEN in the environment. HF_ENDPOINT names a mirror.
    """
    from emotune.hub import local_path
    from emotune.hub.publishing import MAIN
    from emotune.workflows.push import PushRequest
    from emotune.workflows.push import push as run_push

    terminal = Terminal(quiet=quiet)
    request = PushRequest(
        model,
        repository,
        branch=branch,
        public=public,
        with_onnx=with_onnx,
        message=message,
        dry_run=dry_run,
        bars=terminal.shows_bars and not as_json,
    )
    outcome = run_push(request, terminal)
    if as_json:
        emit_json(outcome.to_json())
        return
    if dry_run:
        terminal.table(outcome.table)
        terminal.info(str(outcome))
        return
    emit(str(outcome))
    name = repository if branch == MAIN else f"{repository}@{branch}"
    if local_path(repository) is not None:
        terminal.warn(
            f"in this folder, {repository} names the local file or folder; the model on the hub is read elsewhere"
        )
    terminal.info(f'next: emotune predict -m {quote(name)} "…"')
