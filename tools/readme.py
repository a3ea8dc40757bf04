"""Write README.md from nbs/index.ipynb, without quarto.

    python tools/readme.py            write it
    python tools/readme.py --check    exit 1, with a diff, if README.md is not what the notebook gives

Cells flagged `#| hide`, `#| include: false` or `#| default_exp` are left out. `#| echo: false` hides a cell's code, and
`#| output: false` its output. Progress bars and warnings (stderr) never appear. Code cells in a row become one block.
Links become absolute, so that they work on PyPI, too. Links to notebooks lead to the page of the documentation, other
links to the repository. Each must lead to a file that exists.
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
site = "https://imbllm.github.io/imbllm"
repository = "https://github.com/imbllm/imbllm"
raw = "https://raw.githubusercontent.com/imbllm/imbllm/main"
most = 6000  # bytes: what a visitor reads
header = "<!-- Written by `python tools/readme.py` from nbs/index.ipynb: edit that notebook instead. -->\n\n"


def split_directives(source):
    "The `#|` lines that open a cell, without the mark and blanks, and the code after them."
    lines, flags = source.splitlines(), set()
    while lines and (not lines[0].strip() or re.match(r"\s*#\s*\|", lines[0])):
        flags.add(re.sub(r"^\s*#\s*\||\s", "", lines.pop(0)).rstrip(":"))
    return flags, "\n".join(lines)


def absolute(link, picture=False):
    "`link`, relative to nbs/, as an address."
    if re.match(r"[a-z][a-z0-9+.-]*:|[#/]", link): return link
    path, hash_, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join("nbs", path))
    if not (root/path).exists(): raise SystemExit(f"nbs/index.ipynb links to '{link}', but there is no {path}")
    if picture: return f"{raw}/{path}"
    page = re.fullmatch(r"nbs/((?:\w+/)?)(?:\d+_)?(\w+)\.ipynb", path)
    if page: return f"{site}/{page[1]}{page[2]}.html{hash_}{anchor}"
    return f"{repository}/blob/main/{path}{hash_}{anchor}"


def relink(text):
    "Markdown links and pictures of `text`, outside fenced code, as addresses."
    parts = re.split(r"(^```.*?^```[^\n]*$)", text, flags=re.M | re.S)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(!?)(\[[^\[\]]*\]\()([^)\s]+)",
                          lambda m: m[1] + m[2] + absolute(m[3], bool(m[1])), parts[i])
        parts[i] = re.sub(r"(\)\]\()([^)\s]+)", lambda m: m[1] + absolute(m[2]), parts[i])  # around a picture
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
    for output in cell.outputs: output.get("data", {}).pop("text/html", None)  # the text of a table is shorter
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
    text = re.sub(r"^```\n\s*```python\n", "", text, flags=re.M)  # code cells in a row
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    return header + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main(args):
    new = render()
    size = len(new.encode())
    if size > most: raise SystemExit(f"README.md would have {size:,} bytes, more than {most:,}")
    if args != ["--check"]:
        readme.write_text(new, encoding="utf-8")
        return 0
    old = readme.read_text(encoding="utf-8") if readme.exists() else ""
    diff = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "README.md", "nbs/index.ipynb")
    sys.stdout.writelines(diff)
    return int(old != new)


if __name__ == "__main__": sys.exit(main(sys.argv[1:]))
