"""emotune: emotion classifiers for text. The public Python interface; heavy libraries are imported on use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emotune.api import compare as compare
    from emotune.api import evaluate as evaluate
    from emotune.api import export as export
    from emotune.api import fetch as fetch
    from emotune.api import inspect as inspect
    from emotune.api import read as read
    from emotune.api import train as train
    from emotune.api import tune as tune
    from emotune.errors import EmotuneError as EmotuneError
    from emotune.errors import EmotuneWarning as EmotuneWarning
    from emotune.inference.classifier import EmotionClassifier as EmotionClassifier
    from emotune.inference.classifier import Prediction as Prediction
    from emotune.inference.classifier import Predictions as Predictions
    from emotune.inference.classifier import load as load
    from emotune.inference.scorer import Scorer as Scorer
    from emotune.workflows.predict import predict_files as predict_files

_MODULES = {
    **dict.fromkeys(("compare", "evaluate", "export", "fetch", "inspect", "read", "train", "tune"), "api"),
    **dict.fromkeys(("EmotuneError", "EmotuneWarning"), "errors"),
    **dict.fromkeys(("EmotionClassifier", "Prediction", "Predictions", "load"), "inference.classifier"),
    "Scorer": "inference.scorer",
    "predict_files": "workflows.predict",
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
