__version__ = "0.0.1"
import warnings
from typing import TYPE_CHECKING

with warnings.catch_warnings(): # its first import warns in red in a notebook without ipywidgets
    warnings.filterwarnings("ignore", message="IProgress not found")
    import tqdm.auto # noqa: F401

if TYPE_CHECKING: # type checkers do not see through `__getattr__`
    from .oversampler import LITO, GReaT, ImbLLM, ImbLLMClassifier, PredLLM, TapTap

__all__ = ["ImbLLM", "ImbLLMClassifier", "GReaT", "PredLLM", "TapTap", "LITO"]

def __getattr__(name):
    "Import the estimators when they are asked for: the command line answers `--help` without torch."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import oversampler
    return getattr(oversampler, name)
