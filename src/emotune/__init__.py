"""emotune: emotion classifiers for text. The public Python interface; heavy libraries are imported on use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emotune.inference.classifier import EmotionClassifier as EmotionClassifier
    from emotune.inference.classifier import Prediction as Prediction
    from emotune.inference.classifier import load as load
    from emotune.inference.scorer import Scorer as Scorer
    from emotune.workflows.predict import predict_files as predict_files

__all__ = ["EmotionClassifier", "Prediction", "Scorer", "__version__", "load", "predict_files"]
__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("emotune")
    if name == "Scorer":
        from emotune.inference.scorer import Scorer

        return Scorer
    if name == "predict_files":
        from emotune.workflows import predict

        return predict.predict_files
    if name in __all__:
        from emotune.inference import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'emotune' has no attribute {name!r}")
