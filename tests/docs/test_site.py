"""The site is made of the pages, fails on a dead link, and needs nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import REPOSITORY
from tools.build_docs import NotBuilt, build

pytestmark = pytest.mark.timeout(900)  # the first use installs Sphinx, a minute; a site takes some seconds

# What a browser fetches by itself. A link that somebody may follow is no such thing.
_FETCHED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
    "form": "action",
}
_URL = re.compile(r"url\(\s*([\"']?)(?P<target>.*?)\1\s*\)|@import\s+[\"'](?P<sheet>[^\"']+)")
_FETCH = re.compile(r"(?:fetch|importScripts|import|open)\([^)]*[\"'](?:https?:)?//")
_ELSEWHERE = re.compile(r"(?:[a-z]+:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this checkout."""
    return build(REPOSITORY, tmp_path_factory.mktemp("docs"))


class _Fetches(HTMLParser):
    """What a page has a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = _FETCHED.get(tag)
        self.found += [value for name, value in attrs if value and name in (wanted, "srcset", "background")]
        self.found += [target for name, value in attrs if name == "style" for target in urls(value or "")]


def urls(style: str) -> list[str]:
    """What a style sheet fetches."""
    return [each["target"] or each["sheet"] for each in _URL.finditer(style)]


def fetches(page: Path) -> list[str]:
    """What a file of the site has a browser fetch from elsewhere."""
    text = page.read_text()
    match page.suffix:
        case ".html":
            parser = _Fetches()
            parser.feed(text)
            found = parser.found + urls("".join(re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL)))
        case ".css":
            found = urls(text)
        case _:
            found = [each[0].partition("//")[1] for each in _FETCH.finditer(text)]
    return [each for each in found if _ELSEWHERE.match(each)]


def files(site: Path) -> Iterator[Path]:
    """Every file of the site that can fetch others."""
    for suffix in ("html", "css", "js"):
        yield from site.rglob(f"*.{suffix}")


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    assert {page: fetches(page) for page in files(site) if fetches(page)} == {}
    assert len(list(files(site))) > 40


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script src="https://cdn.example/x.js"></script>'),
        ("a.html", '<link rel="stylesheet" href="//fonts.example/css">'),
        ("a.html", "<style>@import 'https://fonts.example/css';</style>"),
        ("a.css", "@font-face{src:url(https://fonts.example/a.woff2)}"),
        ("a.js", 'fetch("https://tracker.example/")'),
    ],
)
def test_a_file_that_loads_something_would_be_found(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert fetches(tmp_path / name)


def test_every_page_for_readers_is_in_the_site_and_in_its_navigation(site: Path) -> None:
    navigation = (site / "docs" / "index.html").read_text()
    for page in (REPOSITORY / "docs").rglob("*.md"):
        made = page.relative_to(REPOSITORY).with_suffix(".html")
        assert (site / made).exists()
        target = "#" if page.stem == "index" else str(made.relative_to("docs"))
        assert f'href="{target}"' in navigation, page


def test_the_front_page_leads_to_the_documentation(site: Path) -> None:
    target = re.search(r"url=([^\"]+)", (site / "index.html").read_text())
    assert target is not None
    assert (site / target[1]).is_file()


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("[gone](docs/gone.md)", "docs/gone.md"),
        ("[gone](docs/index.md#gone)", "gone"),
        ("[gone](#gone)", "gone"),
        ("![gone](docs/gone.png)", "gone.png"),
    ],
    ids=["page", "anchor of another page", "anchor of this page", "image"],
)
def test_a_dead_link_is_an_error(tmp_path: Path, link: str, said: str) -> None:
    docs = tmp_path / "repository" / "docs"
    shutil.copytree(REPOSITORY / "docs" / "site", docs / "site")
    shutil.copy(REPOSITORY / "docs" / "conf.py", docs)
    (docs / "index.md").write_text("# Documentation\n\n```{toctree}\n../README\n```\n")
    (docs.parent / "README.md").write_text(f"# A page\n\n{link}\n")
    with pytest.raises(NotBuilt, match=said):
        build(docs.parent, tmp_path / "build")
