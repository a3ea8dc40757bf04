__version__ = "0.0.1"
__all__ = ["ImbLLM"]

def __getattr__(name):
    "Import the estimator when it is asked for: the command line answers `--help` without torch."
    if name != "ImbLLM": raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .oversampler import ImbLLM
    return ImbLLM
