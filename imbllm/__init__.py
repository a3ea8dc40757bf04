__version__ = "0.0.1"
__all__ = ["ImbLLM", "ImbLLMClassifier", "GReaT", "PredLLM", "TapTap", "LITO"]

def __getattr__(name):
    "Import the estimators when they are asked for: the command line answers `--help` without torch."
    if name not in __all__: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import oversampler
    return getattr(oversampler, name)
