"""Build the site from the notebooks with mkdocs-material, and check it.

    python tools/site.py            check
    python tools/site.py DIR        check, and leave the site in DIR
    python tools/site.py --browser  open every page in Chromium as well, at the widths of a desk and of a phone

nbdev prepares the notebooks (API tables from docments, links to symbols). nbconvert turns them into Markdown, and
mkdocs into pages. The notebooks in nbs/tests/ are no pages. A gallery of the tutorials and a reference for users are
made from the prepared notebooks. Every internal link, anchor and picture must work. Every public symbol must have a
place on a page, and nbs/sidebar.yml must have every page once.
"""
import base64
import html
import http.server
import importlib
import logging
import re
import shutil
import sys
import tempfile
import threading
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import latex2mathml.converter
import nbformat
import yaml
from mkdocs.commands.build import build as make_pages
from mkdocs.config import load_config
from nbconvert import MarkdownExporter
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from nbdev.showdoc import show_doc

from imbllm._modidx import d as index

root = Path(__file__).resolve().parent.parent
nbs = root/"nbs"
files = f"{get_config().git_url}/blob/main"
site = get_config().doc_host + get_config().doc_baseurl

OWN = "gallery", "api", "contributing", "changes"  # pages that have no notebook
PIXEL = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
UNSEEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

# What the reference shows: a heading, a sentence, and names in the order in which a user meets them
REFERENCE = [
    ("Oversample", "Samplers of imbalanced-learn. All have the arguments and methods of `ImbLLM`.",
     ["ImbLLM", "ImbLLM.fit_resample", "ImbLLM.fit", "ImbLLM.sample", "ImbLLM.passport", "ImbLLM.impute",
      "ImbLLM.log_prob", "ImbLLM.label_proba", "ImbLLM.save",
      "ImbLLM.load", "ImbLLM.push_to_hub", "GReaT", "PredLLM", "TapTap", "LITO"]),
    ("Settings", "Settings that you rarely change.", ["Training", "Sampling"]),
    ("Classify", "A classifier and the language model together.", ["ImbLLMClassifier", "InContextClassifier"]),
    ("Judge rows", "One page, or single figures.",
     ["report", "report_sampler", "column_gaps", "detection_auc", "downstream_scores", "classification_scores",
      "close_probability", "coverage", "prdc", "dcr", "nndr", "copies", "near_copies", "dcr_share",
      "membership_attack", "privacy_scores", "exchange_rate", "exchange_rate_of_rows", "Space"]),
    ("Compare methods", "The benchmark and its statistics.", ["grid", "run", "results_frame", "summary", "compare"]),
    ("Data", "Tables with a known distribution, and the tables of the paper.",
     ["make_income", "make_fraud", "dataset_names", "load_dataset"]),
    ("Draw", "Figures of results, rows and models.",
     ["score_bars", "score_dots", "score_lines", "gap_heatmap", "critical_difference", "marginal_plot", "pair_plot",
      "association_heatmap", "row_map", "dcr_histogram", "loss_curve", "row_probabilities", "attention_heatmap"]),
]


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


def page_name(path):
    "Name of a notebook's page, as nbdev names it: without the number."
    path = Path(path)
    return (path.parent/re.sub(r"^\d+[a-z]?_", "", path.stem)).as_posix()


# --- from a prepared notebook to Markdown ---

def front(nb):
    "Front matter of a prepared notebook."
    raw = next((c for c in nb.cells if c.cell_type == "raw"), None)
    return yaml.safe_load(raw.source.strip().strip("-")) if raw else {}


def relink(text, folder):
    "Links of Markdown that stands in `folder`: symbols' and notebooks' to pages, other files' to the repository."
    def one(match):
        link = match[2].replace(f"{site}/", "../" * len(Path(folder).parts))
        path, hash_, anchor = link.partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:|/|$", path): return match[1] + link
        if path.endswith(".ipynb"): path = page_name(path) + ".html"
        elif path.startswith("../") and not path.endswith(".html") and (nbs/folder/path).exists():
            path = f"{files}/{(nbs/folder/path).resolve().relative_to(root)}"
        return match[1] + path + hash_ + anchor
    parts = re.split(r"(^```.*?^```[^\n]*$)", text, flags=re.M | re.S)
    for i in range(0, len(parts), 2): parts[i] = re.sub(r"(\]\(|(?:src|href)=\")([^)\"\s]+)", one, parts[i])
    for i in range(1, len(parts), 2): parts[i] = re.sub(r"\[`([^`]+)`\]\([^)\s]+\)", r"\1", parts[i])
    return "".join(parts)


def strip_directives(cell):
    "Remove the `#|` lines of a cell, or all of its code if they ask for that. Tables lose their own style."
    if cell.cell_type != "code": return
    hidden = re.search(r"^#\|\s*echo:\s*false", cell.source, re.M)
    cell.source = "" if hidden else re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
    for data in (o.get("data", {}) for o in cell.outputs):
        if "text/html" not in data: continue
        table = re.sub(r"<style[^>]*>.*?</style>\n?", "", data["text/html"], flags=re.S)
        table = re.sub(r'<table[^>]*>', "<table>", table)
        data["text/html"] = re.sub(r"\n\s*\n", "\n", table)  # a blank line would end the block of HTML


def as_markdown(nb, meta, folder):
    "Text of a page, and its pictures by name."
    for cell in nb.cells: strip_directives(cell)
    nb.cells = [c for c in nb.cells if c.cell_type != "raw"]
    nb.metadata["language_info"] = {"name": "python"}
    name = Path(meta["output-file"]).stem
    keys = {"unique_key": name, "output_files_dir": f"{name}_files"}
    text, resources = MarkdownExporter().from_notebook_node(nb, keys)
    text = re.sub(r"^```python\n\s*```\n", "", text, flags=re.M)  # code hidden by echo: false
    text = re.sub(r"(^|\n)---\n(?=\n\[source\])", r"\1", text)
    head = f"# {meta['title']}\n\n" + (f"> {meta['description']}\n\n" if meta.get("description") else "")
    return relink(head + text, folder), resources["outputs"]


def put(data, to):
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(data)


def write_pages(staged, docs):
    "Markdown of each prepared notebook, and what it shows, in `docs`; returns what the front matter says, by name."
    metas = {}
    for path in sorted(staged.rglob("*.ipynb")):
        folder = path.parent.relative_to(staged)
        nb = nbformat.read(path, 4)
        meta = front(nb)
        meta.setdefault("output-file", f"{path.stem}.html")
        name = (folder/Path(meta["output-file"]).stem).as_posix()
        metas[name] = meta | dict(picture=picture(nb), code=excerpt(nb), shown=symbols(nb), folder=folder)
        text, pictures = as_markdown(nb, meta, folder)
        put(text.encode(), docs/f"{name}.md")
        for picture_name, data in pictures.items(): put(data, docs/folder/picture_name)
    for path in [*nbs.rglob("images/*"), nbs/"site.css"]: put(path.read_bytes(), docs/path.relative_to(nbs))
    return metas


def picture(nb):
    "The first picture among a notebook's outputs."
    outputs = (o for c in nb.cells if c.cell_type == "code" for o in c.outputs)
    found = (o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {}))
    return base64.b64decode(next(found, ""))


def excerpt(nb, lines=8, width=46):
    "The first code of a notebook that calls the package, as a picture."
    calls = [c.source for c in nb.cells if c.cell_type == "code" and re.search(r"ImbLLM\w*\(|report\(", c.source)]
    code = [line for line in calls[0].splitlines() if not line.startswith("#|")][:lines] if calls else []
    if not code: return b""
    short = [line if len(line) <= width else line[:width - 1] + "…" for line in code]
    text = "".join(f'<tspan x="12" dy="1.45em">{html.escape(line)}</tspan>' for line in short)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 380 {30 + 19*lines}"><text y="4" font-size="13" '
            f'font-family="monospace" fill="#1b1f24" xml:space="preserve">{text}</text></svg>').encode()


def symbols(nb):
    "What a prepared notebook says of each symbol, by name."
    out = {}
    for cell in nb.cells:
        call = cell.cell_type == "code" and re.search(r"^show_doc\(([\w.]+)", cell.source, re.M)
        if call and cell.outputs: out[call[1]] = "".join(cell.outputs[0].get("data", {}).get("text/markdown", ""))
    return out


# --- pages that have no notebook ---

def card(name, meta, docs):
    "A tutorial in the gallery: its first picture, else its code."
    image = f"gallery/{Path(name).name}." + ("svg" if meta["code"] and not meta["picture"] else "png")
    put(meta["picture"] or meta["code"] or (nbs/"images"/"idea.png").read_bytes(), docs/image)
    title = html.escape(meta["title"])
    description = html.escape(re.sub(r"[`*]", "", meta.get("description", "")))
    return f'<a href="{name}.html"><img src="{image}" alt=""><b>{title}</b><span>{description}</span></a>'


def gallery(sections, metas, docs):
    parts = ["# Tutorials\n\nEach page is a notebook that runs from top to bottom in a few minutes.\n"]
    for title, names in sections:
        cards = "\n".join(card(n, metas[n], docs) for n in names if n.startswith("tutorials/"))
        if cards: parts.append(f'## {title}\n\n<div class="gallery">\n{cards}\n</div>\n')
    return "\n".join(parts)


def method(name, shown):
    "What nbdev says of a method, and the page of its class."
    cls, _, attribute = name.partition(".")
    module = importlib.import_module(f"imbllm.{shown[cls][1]}")
    return show_doc(getattr(getattr(module, cls), attribute))._repr_markdown_(), shown[cls][1]


def reference(metas):
    "What users call, from the chapters' own tables."
    shown = {name: (text, page) for page, meta in metas.items() for name, text in meta["shown"].items()}
    wanted = [name for _, _, names in REFERENCE for name in names]
    shown |= {name: method(name, shown) for name in wanted if "." in name and name not in shown}
    if set(wanted) - set(shown): raise SystemExit(f"No chapter documents {sorted(set(wanted) - set(shown))}")
    parts = ["# Reference\n\nPublic functions, sorted by task. The chapters for developers have the rest.\n"]
    for title, sentence, names in REFERENCE:
        parts.append(f"## {title}\n\n{sentence}\n")
        for name in names:
            text, page = shown[name]
            body = re.sub(r"^---\n", "", text.lstrip())
            link = f"\n[Examples and tests]({page}.html#{name.partition('.')[0].lower()})\n"
            body = re.sub(r"^#+ ", "### ", body, flags=re.M)
            body = re.sub(r"^### [\w.]+", f"### {name}", body, count=1, flags=re.M)  # not the class that defines it
            parts.append(relink(body, "") + link)
    return "\n".join(parts)


def from_repository(name):
    "A file of the repository as a page."
    return re.sub(r"\]\((?![a-z]+:|#)([^)]+)\)", rf"]({files}/\1)", (root/name).read_text(encoding="utf-8"))


# --- the site ---

def sidebar():
    "Titles and pages of the sections of nbs/sidebar.yml; those outside any come first."
    contents = yaml.safe_load((nbs/"sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    return [(c["section"], list(map(page_name, c["contents"]))) for c in contents if isinstance(c, dict)]


def navigation(sections):
    of_users = [(title, names) for title, names in sections if any(n.startswith("tutorials/") for n in names)]
    def pages(names, of_users): return [f"{n}.md" for n in names if n.startswith("tutorials/") == of_users]
    tutorials = [{title: pages(names, True)} for title, names in of_users]
    chapters = [{title: pages(names, False)} for title, names in sections if pages(names, False)]
    return [{"Home": "index.md"}, {"Tutorials": [{"Gallery": "gallery.md"}, *tutorials]}, {"Reference": "api.md"},
            {"For developers": [{"Contributing": "contributing.md"}, {"Changes": "changes.md"}, *chapters]}]


def slug(text, separator):
    "A heading's anchor, as pandoc and so nbdev make it."
    text = re.sub(r"[^\w\s.-]", "", text.lower()).strip()
    return re.sub(r"\s+", separator, text)


def mathml(page):
    "Formulas, which stand in a page as LaTeX, as MathML, which browsers draw without a script."
    def one(match):
        latex = html.unescape(match[2]).strip()
        display = latex.startswith(r"\[")
        formula = latex2mathml.converter.convert(latex[2:-2], display="block" if display else "inline")
        return f'<span class="formula">{formula}</span>'
    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', one, page, flags=re.S)


def build(folder, staged=None):
    "Write the site to `folder`; returns HTML by name."
    staged = staged or Path(proc_nbs(n_workers=0, force=True, skip_folder_re=r"^([_.]|tests$)"))
    sections = sidebar()
    with tempfile.TemporaryDirectory() as d:
        docs = Path(d)
        metas = write_pages(staged, docs)
        for name, text in dict(gallery=gallery(sections, metas, docs), api=reference(metas),
                               contributing=from_repository("CONTRIBUTING.md"),
                               changes=from_repository("CHANGELOG.md")).items(): put(text.encode(), docs/f"{name}.md")
        config = load_config(str(root/"mkdocs.yml"), docs_dir=str(docs), site_dir=str(folder), nav=navigation(sections))
        config["mdx_configs"]["toc"]["slugify"] = slug
        logging.getLogger("mkdocs").setLevel(logging.ERROR)
        config.plugins.on_startup(command="build", dirty=False)
        make_pages(config)
        config.plugins.on_shutdown()
    pages = {p.relative_to(folder).as_posix(): mathml(p.read_text(encoding="utf-8")) for p in folder.rglob("*.html")}
    for name, text in pages.items(): (folder/name).write_text(text, encoding="utf-8")
    return {name: text for name, text in pages.items() if name != "404.html"}


# --- check it ---

def private_places():
    "Places of symbols that are not public, to which nbdev links all the same; their pages have no heading for them."
    for module, symbols in index["syms"].items():
        public = importlib.import_module(module).__all__
        for name, (place, _) in symbols.items():
            if name.removeprefix(f"{module}.").split(".")[0] not in public: yield place


def broken(pages, folder):
    "What does not lead anywhere, a line for each."
    parsed = {name: Links(text) for name, text in pages.items()}
    private = set(private_places())
    out = []
    for name, link in ((name, link) for name, found in parsed.items() for link in found.links):
        url = urlsplit(link)
        if url.scheme or url.netloc: continue
        target = (folder/name).parent/unquote(url.path) if url.path else folder/name
        target = target/"index.html" if target.is_dir() else target
        key = target.resolve().relative_to(folder.resolve()).as_posix()
        if not target.exists(): out.append(f"{name}: {link}: there is no such page or file")
        if key not in parsed or not url.fragment or f"{key}#{url.fragment}" in private: continue
        place = unquote(url.fragment).lower()
        # a method that nbdev links to and does not show stands with its class
        if not parsed[key].ids & {place, place.partition(".")[0]}:
            out.append(f"{name}: {link}: the page has no such place")
    return sorted(set(out))


def unlisted(pages):
    "Public functions and classes that no page has a heading for, as nbdev's index of symbols links to them."
    private = set(private_places())
    places = {name: place for symbols in index["syms"].values() for name, (place, _) in symbols.items()}
    ids = {name: Links(text).ids for name, text in pages.items()}
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


def complaints(tab, pages, address):
    "What Chromium says about each page in a tab: messages, pictures that do not show, no title, wider than the window."
    out = []
    def own(url): return url.startswith(address)
    tab.route(lambda url: not own(url), lambda r: r.fulfill(status=200, content_type="image/svg+xml", body=PIXEL))
    for event in ("console", "pageerror"): tab.on(event, lambda m: out.append(f"{tab.url}: {getattr(m, 'text', m)}"))
    for name in pages:
        tab.goto(f"{address}/{name}")
        out += [f"{name}: the picture {src[:80]} does not show" for src in tab.evaluate(UNSEEN)]
        if not tab.locator("h1").count(): out.append(f"{name}: no title")
        if tab.evaluate(WIDER) > 0: out.append(f"{name}: wider than {tab.viewport_size['width']} px")
    return out


def search(tab, address):
    "Does the search find the main class?"
    tab.goto(f"{address}/index.html")
    tab.locator(".md-search__input").first.fill("ImbLLM")
    try: tab.locator(".md-search-result__item").first.wait_for(timeout=20_000)
    except Exception as e: return [f"the search finds nothing: {e}"]
    return []


def serve(folder):
    "The site under an address of this machine, as a search needs one."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def seen_in_browser(pages, folder):
    "What Chromium complains about: on a phone every page, on a desk those of users. Nothing is fetched from outside."
    from playwright.sync_api import sync_playwright
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    server, out = serve(folder), []
    address = f"http://127.0.0.1:{server.server_port}"
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        of_users = [name for name in pages if name.startswith("tutorials/") or name.removesuffix(".html") in OWN]
        for width, names in ((1200, of_users), (390, pages)):
            tab = browser.new_page(viewport=dict(width=width, height=900))
            out += complaints(tab, names, address)
            if width == 1200: out += search(tab, address)
            tab.close()
        browser.close()
    server.shutdown()
    return out


def main(folder, browser=False):
    pages = build(folder)
    problems = [*broken(pages, folder), *unlisted(pages), *misplaced()]
    if len(pages) != len(notebooks()) + len(OWN): problems.append(f"{len(notebooks())} notebooks: {len(pages)} pages")
    if browser: problems += seen_in_browser(pages, folder)
    n_links = sum(len(Links(text).links) for text in pages.values())
    print(*problems, f"{len(pages)} pages, {n_links} links and pictures, {len(problems)} broken", sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    folders = [Path(a) for a in sys.argv[1:] if a != "--browser"]
    with tempfile.TemporaryDirectory() as d: sys.exit(main(folders[0] if folders else Path(d), "--browser" in sys.argv))
