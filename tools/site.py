"""Build the pages of the documentation without quarto, and check them.

    python tools/site.py            check
    python tools/site.py DIR        check, and leave the pages in DIR
    python tools/site.py --browser  open every page in Chromium as well

nbdev prepares the notebooks (API tables from docments, links to symbols), nbconvert makes a page of each, and every internal link, anchor and
picture must lead somewhere, every public symbol must have a place on a page, and the sidebar must have every page once. The published site is made by quarto (`nbdev_docs`); this is what can be proved without it.
"""
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

from imbllm._modidx import d as modules

root = Path(__file__).resolve().parent.parent


class Links(HTMLParser):
    "Ids of a page, and what it refers to."
    def __init__(self, page):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.ids |= {v for k, v in attrs if k in ("id", "name") and v}
        self.links += [v for k, v in attrs if v and (tag, k) in (("a", "href"), ("img", "src"))]


def front(nb):
    "Front matter of a staged notebook; the raw cell becomes a title."
    raw = next((c for c in nb.cells if c.cell_type == "raw"), None)
    if raw is None: return {}
    meta = yaml.safe_load(raw.source.strip().strip("-"))
    raw.cell_type, raw.source = "markdown", f"# {meta.get('title', '')}\n\n> {meta.get('description', '')}"
    return meta


def page(path):
    "Name and HTML of a staged notebook; directives are stripped, and a cell that asks for it shows no code."
    nb = nbformat.read(path, 4)
    meta = front(nb)
    for cell in nb.cells:
        flags = set(re.findall(r"^#\|\s*([\w-]+):?", cell.source, re.M)) if cell.cell_type == "code" else set()
        hidden = re.search(r"^#\|\s*echo:\s*false", cell.source, re.M)
        if flags: cell.source = "" if hidden else re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
        else: cell.source = re.sub(r"\{target=[^}]*\}", "", cell.source)
    html, _ = HTMLExporter(template_name="basic").from_notebook_node(nb)
    title = meta.get("title", path.stem)
    return meta.get("output-file", f"{path.stem}.html"), f"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head><body>\n{html}\n</body></html>\n"


def broken(pages, folder, base, outside):
    "What does not lead anywhere, a line for each; files of the project that are no pages go into `outside`."
    parsed, out = {name: Links(html) for name, html in pages.items()}, []
    for name, found in parsed.items():
        for link in found.links:
            link = link.removeprefix(base) if link.startswith(base) else link
            url = urlsplit(link)
            if url.scheme or url.netloc: continue
            target = (folder/name).parent/unquote(url.path) if url.path else folder/name
            try: key = target.resolve().relative_to(folder.resolve()).as_posix()
            except ValueError: key = None
            key = re.sub(r"^(?:(.*/))?(?:\d+_)?([\w-]+)\.ipynb$", r"\1\2.html", key) if key and key not in pages else key
            key = key if key is None else key.removeprefix("./")
            beside = root/"nbs"/Path(name).parent/unquote(url.path) # a file of the project outside nbs/, which README.md links to as well; the published site does not have it
            if key is None and beside.is_file(): outside.add(f"{name}: {link}"); continue
            if key not in parsed and not target.exists(): out.append(f"{name}: {link}: there is no such page or file")
            elif url.fragment and key in parsed and unquote(url.fragment) not in parsed[key].ids and unquote(url.fragment).lower() not in {i.lower() for i in parsed[key].ids}: out.append(f"{name}: {link}: the page has no such place")
    return out


def unlisted(pages):
    "Public functions and classes that no page has a heading for, as nbdev's index of symbols links to them; and pages that the sidebar lacks, or has more than once."
    places, out = {}, []
    for symbols in modules["syms"].values(): places |= {name: place[0] for name, place in symbols.items()}
    for name, place in places.items():
        if any(part.startswith("_") for part in name.split(".")[2:]): continue
        file, _, anchor = place.partition("#")
        if file not in pages: out.append(f"{name}: there is no page {file}")
        elif anchor.count(".") == 0 and anchor not in {i.lower() for i in Links(pages[file]).ids}: out.append(f"{name}: {file} has no heading for it")
    listed = re.findall(r"[\w/-]+\.ipynb", (root/"nbs"/"sidebar.yml").read_text(encoding="utf-8"))
    there = [p.relative_to(root/"nbs").as_posix() for p in notebooks()]
    return out + [f"nbs/sidebar.yml has {n} {listed.count(n)} times" for n in sorted({*listed, *there}) if (listed.count(n), there.count(n)) != (1, 1)]


def notebooks(): return [p for p in (root/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]


def seen_in_browser(pages, folder):
    "What Chromium complains about on any page, on a desk or on a phone: messages in the console, and pictures that do not show. Nothing is fetched from outside."
    from playwright.sync_api import sync_playwright
    out = []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"])
        for width in (1200, 390):
            tab = browser.new_page(viewport=dict(width=width, height=900))
            tab.route(re.compile("^https?:"), lambda route: route.fulfill(status=200, content_type="image/svg+xml", body='<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'))
            for event in ("console", "pageerror"): tab.on(event, lambda m: out.append(f"{tab.url}: {getattr(m, 'text', m)}"))
            for name in pages:
                tab.goto((folder/name).resolve().as_uri())
                out += [f"{name}: the picture {src[:80]} does not show" for src in tab.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)")]
                if not tab.locator("h1").count(): out.append(f"{name}: no title")
            tab.close()
        browser.close()
    return out


def main(folder, browser=False):
    staged, pages = Path(proc_nbs(n_workers=0, force=True)), {}
    for path in sorted(staged.rglob("*.ipynb")):
        name, html = page(path)
        pages[(path.parent.relative_to(staged)/name).as_posix()] = html
    for path in staged.rglob("*"):
        if path.is_file() and path.suffix not in (".ipynb", ".yml"): (folder/path.relative_to(staged)).parent.mkdir(parents=True, exist_ok=True); shutil.copy(path, folder/path.relative_to(staged))
    for extra in (root/"nbs").rglob("images/*"): (folder/extra.relative_to(root/"nbs")).parent.mkdir(parents=True, exist_ok=True); shutil.copy(extra, folder/extra.relative_to(root/"nbs"))
    for name, html in pages.items(): (folder/name).parent.mkdir(parents=True, exist_ok=True); (folder/name).write_text(html, encoding="utf-8")
    outside = set()
    problems = broken(pages, folder, get_config().doc_baseurl, outside) + unlisted(pages)
    if len(pages) != len(notebooks()): problems.append(f"{len(notebooks())} notebooks gave {len(pages)} pages")
    if browser: problems += seen_in_browser(pages, folder)
    print(*problems, f"{len(pages)} pages, {sum(len(Links(h).links) for h in pages.values())} links and pictures, {len(problems)} broken", *(f"(not on the site, only in the repository: {o})" for o in sorted(outside)), sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    folders = [Path(a) for a in sys.argv[1:] if a != "--browser"]
    with tempfile.TemporaryDirectory() as d: sys.exit(main(folders[0] if folders else Path(d), "--browser" in sys.argv))
