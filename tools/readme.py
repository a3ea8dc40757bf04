"""Write README.md from nbs/index.ipynb, without quarto.

    python tools/readme.py            write it
    python tools/readme.py --check    exit 1, with a diff, if README.md is not what the notebook gives

Cells flagged `#| hide`, `#| include: false` or `#| default_exp` are left out, `#| echo: false` hides a cell's code and
`#| output: false` its output; progress bars and warnings (stderr) never appear. Links are turned from relative to nbs/
into relative to the project, and must lead to a file that exists.
"""
import difflib
import posixpath
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parent.parent
notebook, readme = root/"nbs"/"index.ipynb", root/"README.md"
header = "<!-- Written by `python tools/readme.py` from nbs/index.ipynb: edit that notebook instead. -->\n\n"


def split_directives(source):
    "The `#|` lines that open a cell, without the mark and blanks, and the code after them."
    lines, flags = source.splitlines(), set()
    while lines and (not lines[0].strip() or re.match(r"\s*#\s*\|", lines[0])):
        flags.add(re.sub(r"^\s*#\s*\||\s", "", lines.pop(0)).rstrip(":"))
    return flags, "\n".join(lines)


def from_root(link):
    "`link`, relative to nbs/, as seen from the project's root."
    if re.match(r"[a-z][a-z0-9+.-]*:|[#/]", link): return link
    path, hash_, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join("nbs", path))
    if not (root/path).exists(): raise SystemExit(f"nbs/index.ipynb links to '{link}', but there is no {path}")
    return path + hash_ + anchor


def relink(text):
    "Markdown and HTML links of `text`, outside fenced code, as seen from the root."
    parts = re.split(r"(^```.*?^```[^\n]*$)", text, flags=re.M | re.S)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(\]\(|(?:src|href)=\")([^)\"\s]+)", lambda m: m[1] + from_root(m[2]), parts[i])
    return "".join(parts)


def shown(cell):
    "`cell` as README shows it, or None."
    if cell.cell_type == "markdown": cell.source = relink(cell.source)
    if cell.cell_type != "code": return cell if cell.cell_type == "markdown" else None
    flags, cell.source = split_directives(cell.source)
    if flags & {"hide", "include:false"} or any(f.startswith("default_exp") for f in flags): return None
    cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr" and "output:false" not in flags]
    if any(k.startswith("image/") for o in cell.outputs for k in o.get("data", {})):
        raise SystemExit("A picture among nbs/index.ipynb's outputs: save it beside the notebook and link to the file")
    if "echo:false" in flags: cell.source = ""
    return cell if cell.source.strip() or cell.outputs else None


def render():
    "README.md's text."
    nb = nbformat.read(notebook, as_version=4)
    nb.cells = [c for c in map(shown, nb.cells) if c]
    nb.metadata["language_info"] = {"name": "python"}
    text, _ = MarkdownExporter().from_notebook_node(nb)
    text = re.sub(r"<style[^>]*>.*?</style>\n?", "", text, flags=re.S)  # pandas' own; GitHub would print it
    text = re.sub(r"^```python\n\s*```\n", "", text, flags=re.M)  # code hidden by echo: false
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    return header + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main(args):
    new = render()
    if args != ["--check"]:
        readme.write_text(new, encoding="utf-8")
        return 0
    old = readme.read_text(encoding="utf-8") if readme.exists() else ""
    diff = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "README.md", "nbs/index.ipynb")
    sys.stdout.writelines(diff)
    return int(old != new)


if __name__ == "__main__": sys.exit(main(sys.argv[1:]))
