"""The starter corpus: short English texts written for this project (CARD.md), CC0."""
