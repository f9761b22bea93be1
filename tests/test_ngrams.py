"""TF-IDF weights equal those of scikit-learn for any texts and settings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from emotune.models.tfidf import WORD, Terms, Unit, weighting

WORDS = st.sampled_from(["so", "SO", "happy", "a", "don't", "naïve", "İ", "ﬁn", "!!", "😀😀", "x1_2", "\u200b", "日本"])
TEXTS = st.one_of(st.text(max_size=20), st.lists(WORDS, max_size=8).map(" ".join))


@settings(deadline=None, max_examples=150)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=8),
    others=st.lists(TEXTS, max_size=3),
    unit=st.sampled_from(["word", "char"]),
    shortest=st.integers(1, 4),
    more=st.integers(0, 3),
    min_df=st.integers(1, 2),
    sublinear=st.booleans(),
    lowercase=st.booleans(),
)
def test_they_are_those_of_scikit_learn(
    texts: list[str],
    others: list[str],
    unit: Unit,
    shortest: int,
    more: int,
    min_df: int,
    sublinear: bool,
    lowercase: bool,
) -> None:
    ours = weighting(
        texts, Terms(unit, shortest, shortest + more, lowercase), min_df=min_df, most=None, sublinear=sublinear
    )
    theirs = TfidfVectorizer(
        analyzer="word" if unit == "word" else "char_wb",
        token_pattern=WORD if unit == "word" else None,
        ngram_range=(shortest, shortest + more),
        min_df=min_df,
        sublinear_tf=sublinear,
        lowercase=lowercase,
    )
    try:
        theirs.fit(texts)
    except ValueError:  # it finds no term
        assert not ours.vocabulary
        return
    assert ours.vocabulary == tuple(theirs.get_feature_names_out())
    for text, row in zip([*texts, *others], theirs.transform([*texts, *others]).toarray(), strict=True):
        columns, weightingts = ours.row(text)
        mine = np.zeros(len(row))
        mine[columns] = weightingts
        np.testing.assert_allclose(mine, row, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("most", "kept"), [(1, ("b",)), (2, ("a", "b")), (9, ("a", "b", "c"))])
def test_the_terms_in_most_texts_are_kept(most: int, kept: tuple[str, ...]) -> None:
    found = weighting(["a b b", "b c", "a b", "c"], Terms("word", 1, 1, True), min_df=1, most=most, sublinear=True)
    assert found.vocabulary == kept
