"""emotune: emotion classifiers for text. The public Python interface; heavy libraries are imported on use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emotune.api.functions import check as check
    from emotune.api.functions import compare as compare
    from emotune.api.functions import ensemble as ensemble
    from emotune.api.functions import evaluate as evaluate
    from emotune.api.functions import export as export
    from emotune.api.functions import fetch as fetch
    from emotune.api.functions import inspect as inspect
    from emotune.api.functions import ladder as ladder
    from emotune.api.functions import predict_files as predict_files
    from emotune.api.functions import push as push
    from emotune.api.functions import read as read
    from emotune.api.functions import search as search
    from emotune.api.functions import train as train
    from emotune.api.functions import tune as tune
    from emotune.errors import EmotuneError as EmotuneError
    from emotune.errors import EmotuneWarning as EmotuneWarning
    from emotune.inference.classifier import EmotionClassifier as EmotionClassifier
    from emotune.inference.classifier import Prediction as Prediction
    from emotune.inference.classifier import Predictions as Predictions
    from emotune.inference.classifier import load as load
    from emotune.inference.scorer import Scorer as Scorer

_FUNCTIONS = (
    *("check", "compare", "ensemble", "evaluate", "export", "fetch", "inspect", "ladder", "predict_files", "push"),
    *("read", "search", "train", "tune"),
)
_MODULES = {
    **dict.fromkeys(_FUNCTIONS, "api.functions"),
    **dict.fromkeys(("EmotuneError", "EmotuneWarning"), "errors"),
    **dict.fromkeys(("EmotionClassifier", "Prediction", "Predictions", "load"), "inference.classifier"),
    "Scorer": "inference.scorer",
}
__all__ = ["__version__", *_MODULES]
__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("emotune")
    if name in _MODULES:
        return getattr(import_module(f"emotune.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'emotune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
