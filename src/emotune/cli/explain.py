"""`emotune explain`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotune.cli.lines import stdin_size
from emotune.cli.options import (
    DEFAULT_MAX_WINDOWS,
    DeviceOption,
    EncodingOption,
    JsonOption,
    MaxWindowsOption,
    ModelOption,
    QuietOption,
    TextsArgument,
    ThreadsOption,
    reported,
)
from emotune.cli.predict import count_text, newest_or_default, tell_counts, tell_if_typed, text_blocks
from emotune.cli.terminal import Terminal, emit, emit_json, flush_results, on_one_line, shortened
from emotune.errors import MissingInputError, OutputError, Place, UsageError, did_you_mean

if TYPE_CHECKING:
    from emotune.inference.explain import Explanation
    from emotune.labels import LabelSet

_MAX_PASSES = 128  # that of the classifier, whose module is imported later
# by level: from barely to strongly for, and against
_FOR = ("", "green", "bold green", "black on green", "bold black on green")
_AGAINST = ("", "red", "bold red", "white on red", "bold white on red")


@reported
def explain(
    texts: TextsArgument = None,
    model: ModelOption = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="LABEL,…", help="The labels to explain [default: those predicted; with --json, all]."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Words to print for each label.")] = 5,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with the highlighted texts to this file.")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    max_windows: MaxWindowsOption = DEFAULT_MAX_WINDOWS,
    max_passes: Annotated[
        int, typer.Option(min=1, help="How often a text is scored; in longer texts, several words count as one.")
    ] = _MAX_PASSES,
    encoding: EncodingOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show which words of a text speak for which emotion.

    Each word is removed in turn. Its contribution to a label is the label's probability minus that without the word.
    """
    from emotune.artifact.opening import open_model
    from emotune.atomic import require_writable
    from emotune.inference.classifier import run_model

    terminal = Terminal(quiet=quiet)
    given, blocks = text_blocks(texts, encoding, terminal, "explain")
    if html is not None:
        hint = "Name another file: --html FILE"
        require_writable(html.parent, hint)
        if html.is_dir():
            raise OutputError("cannot write a page: there is a folder of this name", place=Place(html), hint=hint)
    name = model or newest_or_default(terminal)
    classifier = run_model(open_model(name), device=device, warn=terminal.warn, threads=threads)
    wanted = [] if labels is None else _known(labels, classifier.labels)
    typed = tell_if_typed(given, terminal)
    counts, kept = Counter[str](), list["Explanation"]()
    with terminal.predicting(given or stdin_size(), shown=not (typed or given)) as move:
        for block in blocks:
            found = classifier.explain(
                block.lines, batch_size=batch_size, max_windows=max_windows, max_passes=max_passes
            )
            for explanation in found:
                emit_json(explanation.to_json(wanted or None)) if as_json else _show(explanation, wanted, top, terminal)
                count_text(explanation, counts)
            flush_results()
            move(counts["texts"], block.position)
            kept += found if html is not None else []
    if not counts["texts"]:
        raise MissingInputError("no text given", hint='Try: emotune explain "I did not see that coming!"')
    tell_counts(counts, max_windows, terminal)
    if html is not None:
        from emotune.reports.explanation import explanation_report
        from emotune.reports.writer import write_page

        write_page(explanation_report(kept, wanted, name), html)
        terminal.info(f"written to {html}")


def _known(labels: str, known: "LabelSet") -> list[str]:
    """Return the labels of a list of names; raises UsageError for an unknown one."""
    names = list(dict.fromkeys(name for part in labels.split(",") if (name := part.strip())))
    for name in names:
        if name not in known:
            raise UsageError(f"--labels: this model has no label {name!r}", hint=did_you_mean(name, known.names))
    return names


def _show(explanation: "Explanation", wanted: Sequence[str], top: int, terminal: Terminal) -> None:
    """Print a text and, for each label, its words with the largest contributions; in colour, the text again."""
    from emotune.reports.explanation import pieces

    emit(shortened(on_one_line(explanation.text)))
    if not explanation.scores:
        emit("  (a blank text has no labels)")
    elif not explanation.labels and not wanted:
        emit("  (no label passes its threshold; the highest:)")
    for label in explanation.shown_labels(wanted):
        name = f"{label} {explanation.scores[label]:.2f}"
        if terminal.colored:
            text = ((on_one_line(piece.text), _style(piece.level)) for piece in pieces(explanation, label))
            terminal.styled([(f"  {name}  ", "bold"), *text])
        words = on_one_line(explanation.words_of(label, top))
        terminal.paragraph(f"{name}: {words}", first="  ", others="    ")


def _style(level: int) -> str:
    return _FOR[level] if level >= 0 else _AGAINST[-level]
