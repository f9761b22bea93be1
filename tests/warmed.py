"""What a training imports, imported: the process from which `killing` forks preloads this."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from transformers import BertForSequenceClassification, PreTrainedTokenizerFast  # noqa: F401

import emotune.cli.app
import emotune.training.network
import emotune.workflows.train  # noqa: F401
