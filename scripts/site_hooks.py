"""For mkdocs: what the pages link to outside of docs/ (figures, an example) comes into the site, under files/."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
TAKEN = ("benchmarks/*", "examples/java/*.java")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in (path for pattern in TAKEN for path in sorted(ROOT.glob(pattern))):
        name = f"files/{path.relative_to(ROOT)}"
        if path.suffix == ".md":
            files.append(File.generated(config, name, content=path.read_text()))
        elif path.is_file():
            files.append(File.generated(config, name, content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return markdown.replace("](../", "](files/")
