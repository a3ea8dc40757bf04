"""The oldest versions that settings.ini admits, as constraints for pip:

    python tools/oldest.py >oldest.txt && pip install -c oldest.txt -e '.[dev]'

fastcore is left out, because the nbdev that runs the tests pins it.
"""
import re
from configparser import ConfigParser
from pathlib import Path

settings = ConfigParser(delimiters=["="])
settings.read(Path(__file__).parent.parent/"settings.ini", encoding="utf-8")
keys = "requirements", "accelerate_requirements", "parquet_requirements", "peft_requirements", "gguf_requirements"
wanted = " ".join(settings["DEFAULT"][key] for key in keys)
for name, version in re.findall(r"(\S+?)>=(\S+)", wanted):
    if name != "fastcore": print(f"{name}=={version}")
