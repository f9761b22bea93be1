"""How a frozen encoder's outputs become embeddings. No torch."""

from typing import Literal

from pydantic import Field

from emotune.config.schema import Section


class Reading(Section):
    """Which outputs of an encoder are an embedding: layers, each pooled over a text's tokens, then joined.

    Special tokens count as tokens, padding does not.
    """

    pooling: Literal["cls", "mean", "max"] = Field(
        default="mean", description="of a layer's outputs: the first token's, the mean, or the largest of each number"
    )
    layers: list[int] = Field(
        default=[-1], min_length=1, description="0: the word embeddings, 1: the first layer, …; -1: the top one"
    )
    layer_join: Literal["concat", "average"] = "concat"
    max_length: int = Field(
        default=128, ge=8, description="tokens read at a time; a longer text is read in windows, averaged by tokens"
    )
