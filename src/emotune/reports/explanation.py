"""Explanations as highlighted texts and tables: their levels, their labels, and the page."""

from collections.abc import Iterator, Sequence

from emotune.inference.explain import NOTICEABLE, Explanation
from emotune.reports.tables import Table
from emotune.reports.writer import (
    Block,
    CaptionedTable,
    Details,
    Heading,
    Highlights,
    Paragraph,
    Piece,
    Report,
    Section,
)

LEVELS = (NOTICEABLE, 0.1, 0.25, 0.5)  # the contributions from which a word has the levels 1 to 4
HOW_READ = (
    "A word's contribution to a label is the label's probability minus that without the word. Words that speak for the "
    "label have a solid line below them, words against it a dashed one. The stronger the colour, the larger the "
    "contribution."
)


def level(contribution: float) -> int:
    """Return how strongly a word is highlighted: 1 to 4, below 0 if it speaks against the label; 0: not at all."""
    found = sum(abs(contribution) >= least for least in LEVELS)
    return found if contribution > 0 else -found


def pieces(explanation: Explanation, label: str) -> Iterator[Piece]:
    """Yield the text in pieces: its words with their levels, and what is between them."""
    position = 0
    for word, value in zip(explanation.words, explanation.of(label), strict=True):
        if word.start > position:
            yield Piece(explanation.text[position : word.start])
        yield Piece(word.word, level(float(value)))
        position = word.end
    if position < len(explanation.text):
        yield Piece(explanation.text[position:])


def explanation_report(explanations: Sequence[Explanation], wanted: Sequence[str], model: str) -> Report:
    """Return the description of the page: each text, highlighted for each label, and the figures of its words."""
    blocks: list[Block] = [Paragraph(HOW_READ, quiet=True)]
    for i, explanation in enumerate(explanations):
        blocks += _blocks(explanation, wanted, f"Text {i + 1}" if len(explanations) > 1 else "")
    return Report(
        title="Which words speak for which emotion",
        data_name="explanations.json",
        data={},
        sections=(Section("texts", "Texts" if len(explanations) > 1 else "Text", blocks),),
        facts=(("model", model),),
    )


def _blocks(explanation: Explanation, wanted: Sequence[str], heading: str) -> Iterator[Block]:
    if heading:
        yield Heading(heading)
    labels = explanation.shown_labels(wanted)
    if not labels:
        yield Paragraph("A blank text has no labels.")
        return
    if not explanation.labels:
        yield Paragraph("No label passes its threshold.")
    yield Highlights(
        tuple((f"{name} {explanation.scores[name]:.2f}", tuple(pieces(explanation, name))) for name in labels)
    )
    columns = [explanation.of(name) for name in labels]
    rows = [(word.word, *(f"{column[i]:+.3f}" for column in columns)) for i, word in enumerate(explanation.words)]
    table = CaptionedTable("Contributions", Table(("word", *labels), tuple(rows)))
    yield Details(f"Contributions of its {len(rows)} words", (table,))
