__version__ = "0.1.0"
import warnings
from typing import TYPE_CHECKING

with warnings.catch_warnings(): # its first import warns in red in a notebook without ipywidgets
    warnings.filterwarnings("ignore", message="IProgress not found")
    import tqdm.auto # noqa: F401

if TYPE_CHECKING: # for type checkers, which do not see through `__getattr__`
    from .classifier import ImbLLMClassifier
    from .oversampler import LITO, GReaT, ImbLLM, PredLLM, TapTap
    from .settings import Sampling, Training

_homes = dict(ImbLLM="oversampler", GReaT="oversampler", PredLLM="oversampler", TapTap="oversampler",
              LITO="oversampler", ImbLLMClassifier="classifier", Training="settings", Sampling="settings")
__all__ = ["ImbLLM", "ImbLLMClassifier", "GReaT", "PredLLM", "TapTap", "LITO", "Training", "Sampling"]

def __getattr__(name):
    "Import the estimators when they are asked for: the command line answers `--help` without torch."
    if name not in _homes: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module(f".{_homes[name]}", __name__), name)
