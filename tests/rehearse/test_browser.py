"""The page in a real browser: on a phone and on a desk, light and dark, by keyboard and by screen reader.

Debian's package `chromium-headless-shell` is enough; without a browser all of it is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from graceful.rehearse.figures import Judged
from graceful.rehearse.judging import judge
from graceful.rehearse.model import Rehearsal
from graceful.rehearse.page import as_page
from tests.rehearse import broken
from tests.rehearse.browser import NAMES, Browser, browsing, found
from tests.rehearse.made import GOOD, SERVICE, made, plan
from tests.rehearse.test_page import hostile
from tests.rehearse.test_story import REPORT

PATH = found()
if PATH is None:
    pytest.skip(f"no browser here: none of {', '.join(NAMES)} is on PATH", allow_module_level=True)

LONG = replace(
    SERVICE,
    name="a-service-with-a-name-that-no-column-of-a-phone-can-hold-in-one-line",
    command=("/usr/local/bin/" + "a" * 120, "--port", "{port}"),
    pre_stop=1.0,
)

pytestmark = pytest.mark.browser
CASES = ("failing", "passing", "long", "hostile", "two", "nothing", "liveness")
SCREENS = [(width, dark) for width in (360, 1280) for dark in (False, True)]

# Every text with its colour and what is painted beneath it, with everything unfolded.
CONTRASTS = """(() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return [m[0], m[1], m[2], m[3] ?? 1]; };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = (c) => { const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05); };
  const painted = (element) => { const style = getComputedStyle(element);
    if (element instanceof SVGElement) {
      if (!["rect", "circle"].includes(element.tagName)) return null;
      const fill = parse(style.fill); fill[3] *= Number(style.opacity); return fill; }
    return parse(style.backgroundColor); };
  const beneath = (x, y, self) => { let colour = [255, 255, 255, 1];
    for (const element of document.elementsFromPoint(x, y).reverse()) {
      if (element === self) continue;
      const paint = painted(element); if (paint && paint[3]) colour = over(paint, colour); }
    return colour; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("title, .skip")) continue;
    const range = document.createRange(); range.selectNodeContents(walker.currentNode);
    const box = range.getClientRects()[0];
    if (!box || !box.width) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const below = beneath(box.x + box.width / 2, box.y + box.height / 2, element);
    found.push({ text: walker.currentNode.data.trim().slice(0, 40), needed: large ? 3 : 4.5,
      ratio: ratio(over(parse(ink), below), below) }); }
  for (const shape of document.querySelectorAll("svg .bar, svg .answered, svg .lost, svg .dot")) {
    const box = shape.getBoundingClientRect();
    if (!box.width) continue;
    const style = getComputedStyle(shape);
    const card = parse(getComputedStyle(shape.closest(".card")).backgroundColor);
    const paint = shape.classList.contains("dot") ? style.stroke : style.fill;
    found.push({ text: shape.getAttribute("class"), needed: 3, ratio: ratio(parse(paint), card) }); }
  return found;
})()"""

NAMED = "(each) => each.tagName + ' ' + each.textContent.trim()"
REACHABLE = f"[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')].map({NAMED})"
FOCUSED = f"""(() => {{ const it = document.activeElement; const style = getComputedStyle(it);
  const box = it.getBoundingClientRect();
  return {{ name: ({NAMED})(it), seen: box.width > 0 && box.top < innerHeight && box.bottom > 0,
    outline: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 }}; }})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PATH is not None
    with browsing(PATH, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Their URLs."""
    folder = tmp_path_factory.mktemp("pages")
    told = made(replace(GOOD, output=REPORT))
    cases: dict[str, tuple[Rehearsal, ...]] = {
        "failing": (broken.closes_the_listener_early(),),
        "passing": (told,),
        "long": (made(GOOD, plan(LONG)),),
        "hostile": (hostile(),),
        "two": (broken.closes_the_listener_early(), told),
        "nothing": (broken.not_ready_in_time(),),
        "liveness": (broken.killed_by_liveness(),),
    }
    return {name: write(folder / f"{name}.html", *several) for name, several in cases.items()}


def write(path: Path, *several: Rehearsal) -> str:
    judged = [Judged(rehearsal=each, verdict=judge(each)) for each in several]
    path.write_text(as_page(judged), "utf-8")
    return path.as_uri()


@pytest.mark.parametrize("case", CASES)
def test_it_fits_a_phone(browser: Browser, pages: dict[str, str], case: str) -> None:
    for width in (320, 360, 700, 1280):
        browser.show(pages[case], width=width)
        browser.unfold()
        wide = browser.run("document.documentElement.scrollWidth")

        assert wide <= width, f"{wide} px on a screen of {width}"


@pytest.mark.parametrize(("width", "dark"), SCREENS)
@pytest.mark.parametrize("case", CASES)
def test_every_text_can_be_read(
    browser: Browser, pages: dict[str, str], case: str, width: int, *, dark: bool
) -> None:
    """WCAG 2.2, 1.4.3 for text and 1.4.11 for what is drawn, both at AA."""
    browser.show(pages[case], width=width, dark=dark)
    browser.unfold()
    found = browser.run(CONTRASTS)

    assert len(found) > 30
    assert [each for each in found if each["ratio"] < each["needed"]] == []


def test_dark_is_dark_and_light_is_light(browser: Browser, pages: dict[str, str]) -> None:
    papers = []
    for dark in (False, True):
        browser.show(pages["failing"], dark=dark)
        papers.append(browser.run("getComputedStyle(document.body).backgroundColor"))

    assert papers == ["rgb(245, 246, 248)", "rgb(14, 17, 22)"]


@pytest.mark.parametrize("case", CASES)
def test_it_loads_nothing_and_complains_of_nothing(
    browser: Browser, pages: dict[str, str], case: str
) -> None:
    browser.show(pages[case])
    asked = [event["request"]["url"] for event in browser.told("Network.requestWillBeSent")]

    assert [url for url in asked if not url.startswith("data:")] == [pages[case]]
    assert browser.told("Log.entryAdded") == []
    assert browser.told("Runtime.consoleAPICalled") == []
    assert browser.told("Runtime.exceptionThrown") == []


@pytest.mark.parametrize("case", ["failing", "two"])
def test_the_keyboard_reaches_everything_in_order(browser: Browser, pages: dict[str, str], case: str) -> None:
    browser.show(pages[case])
    expected = browser.run(REACHABLE)
    reached = []
    for _ in expected:
        browser.press("Tab")
        reached.append(browser.run(FOCUSED))

    assert len(expected) > 5
    assert [each["name"] for each in reached] == expected
    assert all(each["outline"] and each["seen"] for each in reached)


def test_enter_unfolds_what_is_folded(browser: Browser, pages: dict[str, str]) -> None:
    browser.show(pages["failing"])
    browser.run("document.querySelector('summary').focus()")
    browser.press("Enter")

    assert browser.run("document.querySelector('details').open")


def test_the_first_tab_leads_past_the_links(browser: Browser, pages: dict[str, str]) -> None:
    browser.show(pages["failing"])
    browser.press("Tab")
    browser.press("Enter")

    assert browser.run("document.activeElement.id") == "report"


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("case", ["failing", "two"])
def test_a_screen_reader_finds_its_way(
    browser: Browser, pages: dict[str, str], case: str, width: int
) -> None:
    browser.show(pages[case], width=width)
    nodes = [node for node in browser.ask("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    roles = [node["role"]["value"] for node in nodes]
    levels = [level_of(node) for node in nodes if node["role"]["value"] == "heading"]
    pictures = [node for node in nodes if node["role"]["value"] in {"image", "img"}]

    assert [roles.count(role) for role in ("banner", "navigation", "main", "contentinfo")] == [1, 1, 1, 1]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(pictures) >= 4
    assert all("lost" in node["name"]["value"] for node in pictures)
    assert roles.count("table") == sum(
        1 for node in nodes if node["role"]["value"] == "table" and node["name"]["value"]
    )
    assert roles.count("columnheader") >= 2 * roles.count("table")
    assert "rowheader" in roles


def level_of(node: dict[str, Any]) -> int:
    found: int = next(each["value"]["value"] for each in node["properties"] if each["name"] == "level")
    return found
