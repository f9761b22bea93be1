"""Encoder classifiers: the `AutoModelForSequenceClassification` class of an architecture, and its parts by role.

Names of transformers' modules and configuration keys occur only here, in `heads` and in `cpu_shortcuts`.
"""

import copy
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from emotune.config.settings import EncoderConfig, NetworkConfig
from emotune.data.tokens import TextEncoder
from emotune.errors import ConfigError, ModelError, OutputError, Place
from emotune.labels import LabelSet, Task, label_key
from emotune.models import adapters, heads
from emotune.models.scoring import Scorer, pick_device

_PROBLEMS = {Task.MULTI_LABEL: "multi_label_classification", Task.MULTI_CLASS: "single_label_classification"}
_HEAD_DROPOUTS = ("seq_classif_dropout", "classifier_dropout", "cls_dropout", "mlp_dropout")
_DROPOUTS = ("hidden_dropout_prob", "dropout", "embedding_dropout", *_HEAD_DROPOUTS)
_ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")
_SENTENCE_ENCODER_MARKS = ("modules.json", "sentence_bert_config.json")
# settings of reading, padding and truncation, which transformers would write with the tokenizer
_LEFTOVERS = ("is_local", "local_files_only", "max_length", "pad_to_multiple_of", "stride", "truncation_strategy")
_UNSET_LENGTH = 1_000_000
_GENERAL_CLASS = "TokenizersBackend"  # PreTrainedTokenizerFast by the name that transformers 4 does not know
_MAX_HINTS = 3


def build(source: Path, config: EncoderConfig, labels: LabelSet, device: torch.device) -> PreTrainedModel:
    """Return the classifier of a checkpoint's architecture with a new head for `labels`, in fp32, for `device`.

    Raises ModelError for a checkpoint that transformers cannot read, that needs its own code, or that lacks weights;
    ConfigError for settings that the architecture does not allow; EmotuneError for adapters without peft.
    """
    _refuse_code(source / "config.json")
    with _reading(source):
        settings = AutoConfig.from_pretrained(
            source, local_files_only=True, trust_remote_code=False, num_labels=len(labels)
        )
    name_labels(settings, labels)
    for rate, names in ((config.dropout, _DROPOUTS), (config.attention_dropout, _ATTENTION_DROPOUTS)):
        for name in names:
            if hasattr(settings, name):
                setattr(settings, name, rate)
    heads.prepare(settings, config)
    if isinstance(config.layers, int):
        _require_layer(config.layers, settings.num_hidden_layers, config)
        _list_layers(settings, range(1, config.layers + 1))
    # on a CPU the backward pass of fused attention is slow for short texts: eager attention is 1.4 times faster
    attention = "eager" if device.type == "cpu" else None
    model, missing = _read_weights(source, config=settings, attn_implementation=attention, ignore_mismatched_sizes=True)
    _require_complete(source, [name for name in missing if not _in_head(model, name)])
    if isinstance(config.layers, list):
        _require_layer(config.layers[-1], len(layer_names(model)), config)
        model = _reduced(model, config.layers)
    if config.pooling == "mean":
        heads.add_mean_layer(model)
    _initialise_head(source, model, config)
    if config.adapter == "lora":
        adapters.add(model, _adapted_layers(model, config), config)
    return model


def _require_layer(layer: int, count: int, config: EncoderConfig) -> None:
    if layer > count:
        raise ConfigError(f"model.layers is {config.layers}, but the encoder has {count} layers")


def _list_layers(settings: Any, kept: Sequence[int]) -> None:
    """Leave these layers, counted from 1, in a transformers configuration."""
    settings.num_hidden_layers = len(kept)
    if types := getattr(settings, "layer_types", None):
        settings.layer_types = [types[layer - 1] for layer in kept]


def _reduced(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """Return a model with the weights of these layers, counted from 1, and of all other parts.

    It is built anew: a layer can have other parts at the bottom, as in ModernBERT.
    """
    settings = copy.deepcopy(model.config)
    _list_layers(settings, kept)
    smaller = AutoModelForSequenceClassification.from_config(
        settings, attn_implementation=model.config._attn_implementation, dtype=torch.float32
    )
    weights, names = model.state_dict(), layer_names(model)
    moved = {place: names[layer - 1] for place, layer in zip(layer_names(smaller), kept, strict=True)}

    def source(name: str) -> str:
        place = next((place for place in moved if name.startswith(f"{place}.")), "")
        return moved.get(place, "") + name.removeprefix(place)

    smaller.load_state_dict({name: weights[source(name)] for name in smaller.state_dict()})
    return smaller


def _adapted_layers(model: PreTrainedModel, config: EncoderConfig) -> list[str]:
    """Return the names of the linear layers with an adapter: of the trained layers, or some of them."""
    layers = tuple(f"{name}." for name in _trained_layers(model, config))
    linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.startswith(layers)]
    if config.lora_targets is None:
        return linear
    return sorted(matching(linear, config.lora_targets, "model.lora_targets"))


def _initialise_head(source: Path, model: PreTrainedModel, config: EncoderConfig) -> None:
    identity = config.head_init == "identity"
    if config.head_init == "auto":
        # the dense layer in a sentence encoder's checkpoint is untrained
        identity = any((source / mark).exists() for mark in _SENTENCE_ENCODER_MARKS)
    if config.head == "mlp":
        (dense,) = _dense_layers(model)  # `heads.prepare` allows only classes with one
        heads.start_mlp(dense, final_linear(model), config.head_hidden)
    elif identity and model.config.model_type != "distilbert":  # its ReLU would discard the negative half
        for layer in _dense_layers(model):
            nn.init.eye_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def load(directory: Path, classifier: Any = AutoModelForSequenceClassification) -> PreTrainedModel:
    """Return the classifier of a model directory, in fp32 on the CPU, ready to score; raises ModelError as `build`.

    classifier: the class of a model that transformers does not have.
    """
    _refuse_code(directory / "config.json")
    model, missing = _read_weights(directory, classifier)
    _require_complete(directory, missing)
    return model.eval()


def load_body(source: Path) -> PreTrainedModel:
    """Return the frozen encoder of a checkpoint without a head, in fp32 on the CPU; raises ModelError as `build`.

    A pooler that the checkpoint lacks is left out; transformers would initialise it at random.
    """
    _refuse_code(source / "config.json")
    model, missing = _read_weights(source, AutoModel)
    _require_complete(source, [name for name in missing if not name.startswith("pooler.")])
    if missing:
        model.pooler = None
    if model.config.is_encoder_decoder:
        message = f"{type(model).__name__} has a decoder too; use an encoder-only checkpoint"
        raise ModelError(message, place=Place(source))
    return model.eval().requires_grad_(False)


def _read_weights(
    source: Path, auto: Any = AutoModelForSequenceClassification, **settings: object
) -> tuple[PreTrainedModel, list[str]]:
    """Return the model and the names of the parameters that the checkpoint lacks or has in another shape."""
    with _reading(source), _quiet_transformers():
        model, report = auto.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **settings,
        )
    assert isinstance(model, PreTrainedModel)
    return model, sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Turn any exception of transformers while it reads a checkpoint into a ModelError."""
    try:
        yield
    except Exception as error:  # an invalid configuration can raise any exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(f"transformers cannot read this checkpoint: {reason}", place=Place(source)) from error


def _require_complete(source: Path, missing: Sequence[str]) -> None:
    """Raise ModelError for missing weights, which transformers would initialise at random."""
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        message = f"the weights do not fit config.json: {len(missing)} are missing or of another shape ({shown})"
        raise ModelError(message, place=Place(source))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Switch off progress bars and warnings of transformers, such as the warning about a new head."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _refuse_code(path: Path) -> None:
    """Raise ModelError for a configuration that names code to run, or that cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read it: {error}", place=Place(path)) from error
    if "auto_map" in content:
        raise ModelError("this checkpoint needs its own code (auto_map), which emotune never runs", place=Place(path))


def text_encoder(source: Path, model: PreTrainedModel) -> TextEncoder:
    """Return the tokenizer of a checkpoint, with the maximum number of tokens of its model."""
    tokenizer = _read_tokenizer(source)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return TextEncoder(tokenizer.backend_tokenizer, max_tokens(model, tokenizer.model_max_length), pad)


def add_embeddings(model: PreTrainedModel, rows: Mapping[int, Tensor]) -> None:
    """Give token ids these embeddings, of shape (width,) each; those behind the vocabulary make it larger."""
    needed = max(rows, default=-1) + 1
    if needed > model.get_input_embeddings().num_embeddings:
        with _quiet_transformers():
            model.resize_token_embeddings(needed, mean_resizing=False)
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        for number, row in rows.items():
            table[number] = row


def vocabulary(source: Path) -> tuple[int, int]:
    """Return the number of tokens in the vocabulary of a checkpoint, and the id of the padding token."""
    tokenizer = _read_tokenizer(source)
    return len(tokenizer), tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0


def _read_tokenizer(source: Path) -> Any:
    if (source / "tokenizer_config.json").is_file():
        _refuse_code(source / "tokenizer_config.json")
    with _reading(source), _quiet_transformers():
        return AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)


def max_tokens(model: PreTrainedModel, tokenizer_limit: int) -> int:
    """Return the maximum number of tokens of a text, special tokens included."""
    limit = getattr(model.config, "max_position_embeddings", None) or 512
    positions = next((m for n, m in model.named_modules() if n.endswith("embeddings.position_embeddings")), None)
    if isinstance(positions, nn.Embedding) and positions.padding_idx is not None:
        limit -= positions.padding_idx + 1  # in RoBERTa, positions start behind that of the padding
    return min(limit, tokenizer_limit) if tokenizer_limit < _UNSET_LENGTH else limit


def save(model: PreTrainedModel, source: Path, encoder: TextEncoder, directory: Path) -> None:
    """Write configuration, weights in fp32, and tokenizer without padding or truncation, for plain transformers."""
    with _quiet_transformers():
        model.save_pretrained(directory, max_shard_size="50GB")
    # safetensors lets only the owner read it; give it the permissions of the other files
    (directory / "model.safetensors").chmod((directory / "config.json").stat().st_mode)
    tokenizer = _read_tokenizer(source)
    tokenizer.model_max_length = encoder.max_tokens
    for name in _LEFTOVERS:
        tokenizer.init_kwargs.pop(name, None)
    try:
        tokenizer.save_pretrained(directory)
    except OSError:
        raise
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise OutputError(f"cannot write the tokenizer: {error}", place=Place(directory)) from error
    encoder.save(directory / "tokenizer.json")
    before, after = (json.loads(text) for text in (tokenizer.backend_tokenizer.to_str(), encoder.to_json()))
    changed = any(before[key] != after[key] for key in ("normalizer", "added_tokens"))
    if changed or type(tokenizer).__name__ == _GENERAL_CLASS:
        _name_general_class(directory / "tokenizer_config.json", tokenizer)


def _name_general_class(path: Path, tokenizer: Any) -> None:
    """Name the class that takes `tokenizer.json` as it is: that of a model, such as BertTokenizer, builds it anew."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["model_input_names"] = tokenizer.model_input_names
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def update_layer(path: Path, model: PreTrainedModel, layer: nn.Module) -> None:
    """Overwrite the parameters of one layer of a model in its safetensors file."""
    within = {id(parameter) for parameter in layer.parameters()}
    tensors = {name: p.detach() for name, p in model.named_parameters() if id(p) in within}
    # a file is 8 bytes with the header's length, a JSON header, and the tensors
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, tensor in tensors.items():
            begin, end = header[name]["data_offsets"]
            content = tensor.cpu().contiguous().numpy().tobytes()
            assert len(content) == end - begin, "a layer keeps its shape and type"
            file.seek(8 + length + begin)
            file.write(content)


def _in_head(model: PreTrainedModel, name: str) -> bool:
    """Whether a module or parameter belongs to the head. BERT has the head's dense layer in the encoder's pooler."""
    return not name.startswith(f"{model.base_model_prefix}.") or f"{model.base_model_prefix}.pooler." in name


def head_parameters(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of the head with their names."""
    return ((n, p) for n, p in model.named_parameters() if _in_head(model, n))


def encoder_parameters(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of the encoder with their names."""
    return ((n, p) for n, p in model.named_parameters() if not _in_head(model, n))


def layer_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of the layers from the bottom: those of the longest ModuleList."""
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    name, layers = max(lists, key=lambda item: len(item[1]))
    return tuple(f"{name}.{i}" for i in range(len(layers)))


def final_linear(model: PreTrainedModel) -> nn.Linear:
    """Return the layer whose outputs are the logits; raises ModelError for an architecture without one."""
    layers = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and _in_head(model, n)]
    if not layers or layers[-1].out_features != model.config.num_labels:
        raise ModelError(f"{type(model).__name__} has no final linear layer for the logits")
    return layers[-1]


def _dense_layers(model: PreTrainedModel) -> list[nn.Linear]:
    """Return the square layers of the head before the last layer: one, in the supported classes."""
    last = final_linear(model)
    layers = (m for n, m in model.named_modules() if isinstance(m, nn.Linear) and _in_head(model, n))
    return [layer for layer in layers if layer is not last and layer.in_features == layer.out_features]


def name_labels(settings: Any, labels: LabelSet) -> None:
    """Write the label names, in the order of the logits, and the task into a transformers configuration."""
    settings.id2label = dict(enumerate(labels.names))
    settings.label2id = {name: i for i, name in enumerate(labels.names)}
    settings.problem_type = _PROBLEMS[labels.task]


def start_at_priors(model: PreTrainedModel, targets: npt.NDArray[np.float32], task: Task) -> None:
    """Initialise the last bias to the log-odds of the labels' frequencies in `targets`, shape (n, labels)."""
    frequency = np.clip(targets.mean(axis=0, dtype=np.float64), 1e-4, 1 - 1e-4)
    prior = np.log(frequency) if task is Task.MULTI_CLASS else np.log(frequency / (1 - frequency))
    bias = final_linear(model).bias
    if bias is not None:
        with torch.no_grad():
            bias.copy_(torch.as_tensor(prior, dtype=bias.dtype))


def start_from(
    model: PreTrainedModel, other: PreTrainedModel, known: LabelSet, labels: LabelSet, config: EncoderConfig
) -> list[str]:
    """Move the weights of a network towards those of another one, by `init_share`.

    known: the labels of the other one. The rows of the last layer of labels that both have are copied, and so are the
    embeddings of tokens that only the other one has. A mean layer that it lacks stays as it is. Return the labels that
    both have. Raises ConfigError for another architecture.
    """
    last, others = final_linear(model), final_linear(other)
    kept = [last]
    if config.pooling == "mean" and model.config.num_hidden_layers == other.config.num_hidden_layers + 1:
        kept.append(model.get_submodule(layer_names(model)[-1]))
    words, other_words = (m.get_input_embeddings().weight for m in (model, other))
    add_embeddings(model, {number: other_words[number] for number in range(len(words), len(other_words))})
    own, theirs = _without(model, kept), _without(other, [others])
    if {name: p.shape for name, p in theirs.items()} != {name: p.shape for name, p in own.items()}:
        message = f"it is a network of {_size(other)}, and the configuration describes one of {_size(model)}"
        raise ConfigError(message)
    rows = {label_key(name): row for row, name in enumerate(known.names)}
    shared = {i: rows[label_key(name)] for i, name in enumerate(labels.names) if label_key(name) in rows}
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.lerp_(theirs[name], config.init_share)
        for parameter, given in zip(last.parameters(), others.parameters(), strict=True):
            parameter[list(shared)] = given[list(shared.values())]
    return [labels.names[i] for i in shared]


def _without(model: PreTrainedModel, parts: Sequence[nn.Module]) -> dict[str, nn.Parameter]:
    """Return the parameters without those of some parts and of adapters, by their names without adapters."""
    left_out = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name: p for name, p in adapters.plain_parameters(model).items() if id(p) not in left_out}


def _size(model: PreTrainedModel) -> str:
    settings = model.config
    size = f"{settings.num_hidden_layers} layers, width {settings.hidden_size}"
    return f"type {settings.model_type}, {size}, {settings.vocab_size:,} tokens"


def divide_logits(model: PreTrainedModel, temperature: float | npt.NDArray[np.float64]) -> None:
    """Fold one temperature, or one per label, into the last layer: logits become logits / temperature."""
    layer = final_linear(model)
    scale = torch.as_tensor(temperature, dtype=layer.weight.dtype, device=layer.weight.device).reshape(-1, 1)
    with torch.no_grad():
        layer.weight.div_(scale)
        if layer.bias is not None:
            layer.bias.div_(scale[:, 0])


def freeze(model: PreTrainedModel, config: NetworkConfig) -> None:
    """Freeze the parameters that the configuration names.

    Raises ConfigError for more layers than there are, a pattern that matches no parameter, or nothing left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    trained = _trained_by_part(model, config)
    if config.train_only is not None:
        if config.freeze != "none":
            raise ConfigError(f"model.train_only cannot be combined with model.freeze {config.freeze}")
        trained = matching(names, config.train_only, "model.train_only")
    trained -= matching(names, config.freeze_parameters, "model.freeze_parameters")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    if not trained:
        raise ConfigError("model.train_only and model.freeze_parameters leave nothing to train")
    if config.freeze_epochs and trained.isdisjoint(name for name, _ in head_parameters(model)):
        raise ConfigError("model.freeze_epochs leaves nothing to train: the parameters of the head are frozen")


def _trained_by_part(model: PreTrainedModel, config: NetworkConfig) -> set[str]:
    """Return the names of the parameters that `freeze` and `freeze_word_embeddings` leave trainable."""
    kept, adapted = _trained_layers(model, config), adapters.parameters(model)
    trained = {name for name, _ in head_parameters(model)} | adapted.keys()
    if adapted:  # they are in the layers that are trained, and replace the training of their weights
        return trained
    words = model.get_input_embeddings().weight if config.freeze_word_embeddings else None
    for name, parameter in encoder_parameters(model):
        in_layer = config.freeze == "last_n" and any(name.startswith(f"{prefix}.") for prefix in kept)
        if (config.freeze == "none" or in_layer) and parameter is not words:
            trained.add(name)
    return trained


def _trained_layers(model: PreTrainedModel, config: NetworkConfig) -> tuple[str, ...]:
    """Return the names of the layers that `freeze` last_n leaves trainable, else of all; raises ConfigError."""
    layers = layer_names(model)
    if config.freeze != "last_n":
        return layers
    if config.last_n > len(layers):
        raise ConfigError(f"model.last_n is {config.last_n}, but the encoder has {len(layers)} layers")
    return layers[-config.last_n :]


def matching(names: Sequence[str], patterns: Sequence[str], key: str) -> set[str]:
    """Return the names that any pattern matches as a whole, case-sensitively.

    Raises ConfigError with the configuration key for a pattern that matches no name.
    """
    found: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
        if not matched:
            raise ConfigError(f"{key}: {pattern!r} matches no parameter of this model", hint=_hint(names, pattern))
        found |= matched
    return found


def _hint(names: Sequence[str], pattern: str) -> str:
    below = f"{pattern.rstrip('.*')}.*"
    if any(fnmatchcase(name, below) for name in names):
        return f"Did you mean {below!r}?"
    word = pattern.strip("*.")
    within = [name for name in names if word and word.casefold() in name.casefold()]
    near = within or difflib.get_close_matches(word, names, n=_MAX_HINTS, cutoff=0.6)
    if near:
        more = ", …" if len(near) > _MAX_HINTS else ""
        return f"A pattern must match a whole name; similar names are {', '.join(near[:_MAX_HINTS])}{more}"
    parts = dict.fromkeys(".".join(name.split(".")[:2]) for name in names)
    return f"The model has {', '.join(f'{part}.*' for part in parts)}"


class TorchBackend(Scorer):
    """A network of transformers, in fp32 on one device, for scoring."""

    def __init__(self, model: PreTrainedModel, device: str = "auto") -> None:
        target = pick_device(device)
        self.model = model.to(target).eval()
        super().__init__(
            lambda ids, mask: self.model(input_ids=ids, attention_mask=mask).logits,
            num_labels=self.model.config.num_labels,
            num_embeddings=self.model.get_input_embeddings().num_embeddings,
            device=target,
        )
