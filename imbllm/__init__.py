__version__ = "0.0.1"
from typing import TYPE_CHECKING
if TYPE_CHECKING: from .oversampler import LITO, GReaT, ImbLLM, ImbLLMClassifier, PredLLM, TapTap # for type checkers, which do not see through `__getattr__`

__all__ = ["ImbLLM", "ImbLLMClassifier", "GReaT", "PredLLM", "TapTap", "LITO"]

def __getattr__(name):
    "Import the estimators when they are asked for: the command line answers `--help` without torch."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import oversampler
    return getattr(oversampler, name)
