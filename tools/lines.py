"""Check the form of the source: `python tools/lines.py` exits with 1 if one of these is broken.

- No line of a notebook's cell or of a module is longer than 120 characters. Text that cannot be broken does not count:
  rows of a markdown table, addresses of links, a single word, and `__all__`.
- No chapter imports one with a higher number, lazily or not, so that no imports go in a circle.

It also counts the public names. ruff checks the lines of what is not exported from a notebook.
"""
import ast
import json
import re
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
nbs, package = root/"nbs", root/"imbllm"
WIDTH = 120


def source(cell): return "".join(cell["source"])


def cells(path): return json.loads(path.read_text(encoding="utf-8"))["cells"]


def is_long(line, markdown=False):
    "Is the line too long, and could it be shorter?"
    if markdown: line = "" if line.lstrip().startswith("|") else re.sub(r"\(https?:[^)]*\)", "", line)
    return len(line) > WIDTH and " " in line.strip()


def long_in_cells():
    for path in sorted(nbs.rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts: continue
        for cell in cells(path):
            markdown = cell["cell_type"] == "markdown"
            place = f"{path.relative_to(root)} {cell['id']}"
            for line in source(cell).splitlines():
                if is_long(line, markdown): yield f"{place}: {len(line)} characters: {line[:60]}"


def long_in_modules(chapters):
    for name in chapters:
        parts = re.split(r"(?m)^# %% (.*)\n", (package/f"{name}.py").read_text(encoding="utf-8"))
        for place, code in zip(parts[1::2], parts[2::2]):
            if place.startswith("auto"): continue
            for line in code.splitlines():
                if is_long(line): yield f"imbllm/{name}.py: {len(line)} characters: {line[:60]}"


def numbering():
    "The number of each chapter, by the name of its module."
    out = {}
    for path in sorted(nbs.glob("[0-9]*.ipynb")):
        found = [m[1] for m in (re.match(r"#\|\s*default_exp (\w+)", source(cell)) for cell in cells(path)) if m]
        out |= {name: int(path.name.split("_")[0]) for name in found}
    return out


def public_names(tree):
    "What `__all__` lists."
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    lists = [node.value for node in assigned if ast.unparse(node.targets[0]) == "__all__"]
    return ast.literal_eval(lists[0]) if lists else []


def modules_of(node, home):
    "Modules of the package that a node of the syntax tree imports; `home` is the module that defines a public name."
    if isinstance(node, ast.Import): names = [a.name for a in node.names]
    elif isinstance(node, ast.ImportFrom):
        module = ".".join(filter(None, ["imbllm" if node.level else "", node.module]))
        names = [f"imbllm.{home.get(a.name, a.name)}" for a in node.names] if module == "imbllm" else [module]
    elif isinstance(node, ast.Call): # LazyModule(...), importlib.import_module(...)
        names = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
    else: names = []
    return {m[1] for m in (re.fullmatch(r"imbllm\.(\w+)", name) for name in names) if m}


def upwards(trees, chapters):
    "Imports of chapters with higher numbers, a line for each."
    home = {name: module for module, tree in trees.items() for name in public_names(tree)}
    for module, tree in trees.items():
        used = set().union(*(modules_of(node, home) for node in ast.walk(tree)))
        for other in sorted(used & chapters.keys()):
            if chapters[other] >= chapters[module] and other != module:
                yield f"{chapters[module]:02}_{module} imports {chapters[other]:02}_{other}"


def main():
    chapters = numbering()
    trees = {name: ast.parse((package/f"{name}.py").read_text(encoding="utf-8")) for name in chapters}
    long = [*long_in_cells(), *long_in_modules(chapters)]
    up = list(upwards(trees, chapters))
    n_names = sum(len(public_names(tree)) for tree in trees.values())
    print(*long, *up, sep="\n")
    print(f"{len(chapters)} chapters, {n_names} public names, {len(long)} long lines, {len(up)} imports upwards")
    return int(bool(long or up))


if __name__ == "__main__": sys.exit(main())
