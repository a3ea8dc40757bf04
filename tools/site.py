"""Build the pages of the documentation without quarto, and check them.

    python tools/site.py            check
    python tools/site.py DIR        check, and leave the pages in DIR
    python tools/site.py --browser  open every page in Chromium as well

nbdev prepares the notebooks (API tables from docments, links to symbols), and nbconvert makes a page of each; those in
nbs/tests/ are no pages. Every internal link, anchor and picture must lead somewhere, every public symbol must have a
place on a page, and the sidebar must have every page once. The published site is made by quarto (`nbdev_docs`); this is
what can be proved without it.
"""
import importlib
import re
import shutil
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import yaml
from nbconvert import HTMLExporter
from nbdev.config import get_config
from nbdev.serve import proc_nbs

from imbllm._modidx import d as index

root = Path(__file__).resolve().parent.parent
nbs = root/"nbs"

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>
{body}
</body></html>
"""
PIXEL = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
UNSEEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"


class Links(HTMLParser):
    "Ids of a page, and what it refers to."
    def __init__(self, page):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.ids |= {v.lower() for k, v in attrs if k in ("id", "name") and v}
        self.links += [v for k, v in attrs if v and (tag, k) in (("a", "href"), ("img", "src"))]


def notebooks():
    "Paths of the notebooks that are pages, relative to nbs/."
    paths = [p.relative_to(nbs) for p in nbs.rglob("*.ipynb")]
    return [p for p in paths if p.parts[0] != "tests" and ".ipynb_checkpoints" not in p.parts]


# --- make pages ---

def front(nb):
    "Front matter of a staged notebook; the raw cell becomes a title."
    raw = next((c for c in nb.cells if c.cell_type == "raw"), None)
    if raw is None: return {}
    meta = yaml.safe_load(raw.source.strip().strip("-"))
    raw.cell_type, raw.source = "markdown", f"# {meta.get('title', '')}\n\n> {meta.get('description', '')}"
    return meta


def strip_directives(cell):
    "Leave out the `#|` lines of a cell, or all of its code if they ask for that."
    flags = cell.cell_type == "code" and re.search(r"^#\|", cell.source, re.M)
    hidden = re.search(r"^#\|\s*echo:\s*false", cell.source, re.M)
    if flags: cell.source = "" if hidden else re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
    else: cell.source = re.sub(r"\{target=[^}]*\}", "", cell.source)


def page(path):
    "Name and HTML of a staged notebook."
    nb = nbformat.read(path, 4)
    meta = front(nb)
    for cell in nb.cells: strip_directives(cell)
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(nb)
    html = PAGE.format(title=meta.get("title", path.stem), body=body)
    return meta.get("output-file", f"{path.stem}.html"), html


def put(source, to):
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, to)


def build(folder):
    "Write all pages and what they show to `folder`; returns HTML by name."
    staged = Path(proc_nbs(n_workers=0, force=True, skip_folder_re=r"^([_.]|tests$)"))
    pages = {}
    for path in sorted(staged.rglob("*.ipynb")):
        name, html = page(path)
        pages[(path.parent.relative_to(staged)/name).as_posix()] = html
    for path in staged.rglob("*"):
        if path.is_file() and path.suffix not in (".ipynb", ".yml"): put(path, folder/path.relative_to(staged))
    for path in nbs.rglob("images/*"): put(path, folder/path.relative_to(nbs))
    for name, html in pages.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text(html, encoding="utf-8")
    return pages


# --- check them ---

def private_places():
    "Places of symbols that are not public, to which nbdev links all the same; their pages have no heading for them."
    for module, symbols in index["syms"].items():
        public = importlib.import_module(module).__all__
        for name, (place, _) in symbols.items():
            if name.removeprefix(f"{module}.").split(".")[0] not in public: yield place


def page_key(target, pages, folder):
    "Name of the page that a path within `folder` means, a notebook's too; None outside."
    try: key = target.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError: return None
    if key not in pages: key = re.sub(r"^(?:(.*/))?(?:\d+_)?([\w-]+)\.ipynb$", r"\1\2.html", key)
    return key.removeprefix("./")


def broken(pages, folder, base):
    "What does not lead anywhere, a line for each; and what leads to files of the project that are no pages."
    parsed = {name: Links(html) for name, html in pages.items()}
    private = set(private_places())
    out, outside = [], set()
    for name, link in ((name, link) for name, found in parsed.items() for link in found.links):
        url = urlsplit(link.removeprefix(base))
        if url.scheme or url.netloc: continue
        target = (folder/name).parent/unquote(url.path) if url.path else folder/name
        key = page_key(target, pages, folder)
        # README.md links to files of the project outside nbs/ as well; the published site does not have them
        if key is None and (nbs/Path(name).parent/unquote(url.path)).is_file(): outside.add(f"{name}: {link}")
        elif key not in parsed and not target.exists(): out.append(f"{name}: {link}: there is no such page or file")
        elif not url.fragment or key not in parsed or f"{key}#{url.fragment}" in private: continue
        elif unquote(url.fragment).lower() not in parsed[key].ids:
            out.append(f"{name}: {link}: the page has no such place")
    return out, outside


def unlisted(pages):
    "Public functions and classes that no page has a heading for, as nbdev's index of symbols links to them."
    private = set(private_places())
    places = {name: place for symbols in index["syms"].values() for name, (place, _) in symbols.items()}
    ids = {name: Links(html).ids for name, html in pages.items()}
    for name, place in places.items():
        if place in private or any(part.startswith("_") for part in name.split(".")[2:]): continue
        file, _, anchor = place.partition("#")
        if file not in pages: yield f"{name}: there is no page {file}"
        elif "." not in anchor and anchor not in ids[file]: yield f"{name}: {file} has no heading for it"


def misplaced():
    "Pages that the sidebar lacks, or has more than once."
    listed = re.findall(r"[\w/-]+\.ipynb", (nbs/"sidebar.yml").read_text(encoding="utf-8"))
    there = [p.as_posix() for p in notebooks()]
    for name in sorted({*listed, *there}):
        n = listed.count(name)
        if (n, there.count(name)) != (1, 1): yield f"nbs/sidebar.yml has {name} {n} times"


def complaints(tab, pages, folder):
    "What Chromium says about each page in a tab: messages, pictures that do not show, no title."
    out = []
    tab.route(re.compile("^https?:"), lambda route: route.fulfill(status=200, content_type="image/svg+xml", body=PIXEL))
    for event in ("console", "pageerror"): tab.on(event, lambda m: out.append(f"{tab.url}: {getattr(m, 'text', m)}"))
    for name in pages:
        tab.goto((folder/name).resolve().as_uri())
        out += [f"{name}: the picture {src[:80]} does not show" for src in tab.evaluate(UNSEEN)]
        if not tab.locator("h1").count(): out.append(f"{name}: no title")
    return out


def seen_in_browser(pages, folder):
    "What Chromium complains about on any page, on a desk or on a phone. Nothing is fetched from outside."
    from playwright.sync_api import sync_playwright
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    out = []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (1200, 390):
            tab = browser.new_page(viewport=dict(width=width, height=900))
            out += complaints(tab, pages, folder)
            tab.close()
        browser.close()
    return out


def main(folder, browser=False):
    pages = build(folder)
    problems, outside = broken(pages, folder, get_config().doc_baseurl)
    problems += [*unlisted(pages), *misplaced()]
    if len(pages) != len(notebooks()): problems.append(f"{len(notebooks())} notebooks gave {len(pages)} pages")
    if browser: problems += seen_in_browser(pages, folder)
    n_links = sum(len(Links(html).links) for html in pages.values())
    print(*problems, f"{len(pages)} pages, {n_links} links and pictures, {len(problems)} broken", sep="\n")
    for link in sorted(outside): print(f"(not on the site, only in the repository: {link})")
    return int(bool(problems))


if __name__ == "__main__":
    folders = [Path(a) for a in sys.argv[1:] if a != "--browser"]
    with tempfile.TemporaryDirectory() as d: sys.exit(main(folders[0] if folders else Path(d), "--browser" in sys.argv))
