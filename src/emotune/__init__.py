"""emotune: train, tune, evaluate and run classifiers of emotions in texts."""

from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emotune.inference.classifier import EmotionClassifier as EmotionClassifier
    from emotune.inference.classifier import Prediction as Prediction
    from emotune.inference.classifier import load as load

__all__ = ["EmotionClassifier", "Prediction", "__version__", "load"]
__version__ = metadata.version("emotune")


def __getattr__(name: str) -> Any:
    if name in __all__:
        from emotune.inference import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'emotune' has no attribute {name!r}")
