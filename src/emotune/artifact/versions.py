"""What a model was made with."""

from importlib import metadata

_LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "scikit-learn")


def versions() -> dict[str, str]:
    """The versions of emotune and of the libraries that make its models, those that are installed."""
    from emotune import __version__

    found = {"emotune": __version__}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
