"""A rehearsal as one page that holds all it needs: no script, nothing from anywhere else.

It is read on paper, on a phone, by keyboard and by screen reader: a table stands beside each picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final

from graceful.rehearse import sections
from graceful.rehearse.figures import Judged, headline, labels, rows
from graceful.rehearse.markup import Inside, Markup, tag
from graceful.rehearse.model import Judgement
from graceful.rehearse.picture import NARROW, WIDE, draw_death
from graceful.rehearse.sections import Section
from graceful.rehearse.timeline import Timeline, timelines

_CHIPS: Final = {
    Judgement.PASSED: ("\N{CHECK MARK} passed", "passed"),
    Judgement.FAILED: ("\N{MULTIPLICATION X} failed", "failed"),
    Judgement.NO_VERDICT: ("? no verdict", "no-verdict"),
}
# Nothing is loaded and nothing runs, whatever a service has put into its output.
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M2 4h12v3H2zm0 5h7v3H2z' fill='%234478cf'/%3E%3C/svg%3E"
)


def as_page(several: Sequence[Judged]) -> str:
    """One HTML document: of one rehearsal, or of several side by side."""
    said = [f"{label}: {headline(judged)}" for judged, label in zip(several, labels(several), strict=True)]
    style = files("graceful.rehearse").joinpath("page.css").read_text("utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("link", rel="icon", href=_ICON),
        tag("title", f"{' / '.join(said)} - graceful rehearse"),
        tag("style", Markup(style)),
    )
    parts = _single(several[0]) if len(several) == 1 else _side_by_side(several)
    return f"<!doctype html>\n{tag('html', head, tag('body', *parts), lang='en')}\n"


def _single(judged: Judged) -> Iterator[Markup]:
    service = judged.rehearsal.plan.service
    chapters = list(sections.of(judged))
    top = (
        tag("p", _chip(judged), " ", tag("span", service.name, class_="soft")),
        tag("h1", headline(judged)),
        tag("p", sections.lede(judged), class_="lede"),
        sections.command(judged),
        sections.tiles(judged),
    )
    yield from _frame(top, [(chapter.id, chapter.title) for chapter in chapters], map(_section, chapters))


def _side_by_side(several: Sequence[Judged]) -> Iterator[Markup]:
    names = labels(several)
    chapters = [
        (f"service-{number}", name, list(sections.of(judged, f"service-{number}-", level=3)))
        for number, (judged, name) in enumerate(zip(several, names, strict=True), start=1)
    ]
    top = (
        tag("h1", "The same rehearsal, side by side"),
        tag(
            "p", "; ".join(f"{n}: {headline(j)}" for n, j in zip(names, several, strict=True)), class_="lede"
        ),
    )
    links = [("side-by-side", "Side by side"), *((each, name) for each, name, _ in chapters)]
    content = [
        tag(
            "section",
            tag("h2", "Side by side", id="side-by-side"),
            tag("div", _cards(several, names), class_="pair"),
            tag("div", _figures(several, names), class_="card"),
            aria_labelledby="side-by-side",
        ),
        *(
            tag("section", tag("h2", name, id=each), map(_section, parts), aria_labelledby=each)
            for each, name, parts in chapters
        ),
    ]
    yield from _frame(top, links, content)


def _frame(top: Inside, links: Sequence[tuple[str, str]], content: Inside) -> Iterator[Markup]:
    """What is around every page."""
    yield tag("a", "Skip to the report", href="#report", class_="skip")
    yield tag("header", tag("p", tag("b", "graceful"), " rehearse", class_="brand"), top)
    entries = [tag("li", tag("a", title, href=f"#{id_}")) for id_, title in links]
    yield tag("nav", tag("ul", entries), aria_label="On this page")
    yield tag("main", content, id="report", tabindex="-1")
    yield tag(
        "footer",
        tag("p", "Made by graceful rehearse. Times are seconds; this page loads nothing and runs nothing."),
    )


def _chip(judged: Judged) -> Markup:
    said, style = _CHIPS[judged.verdict.judgement]
    return tag("span", said, class_=f"chip {style}")


def _section(chapter: Section) -> Markup:
    title = tag(f"h{chapter.level}", chapter.title, id=chapter.id)
    return tag("section", title, chapter.content, aria_labelledby=chapter.id)


def _cards(several: Sequence[Judged], names: Sequence[str]) -> Iterator[Markup]:
    """Each service with its worst death, all on one scale of time."""
    worst = [_worst(judged) for judged in several]
    shown = [timeline for timeline in worst if timeline is not None]
    window = (
        min((timeline.begins for timeline in shown), default=0.0),
        max((timeline.ends for timeline in shown), default=1.0),
    )
    for judged, name, timeline in zip(several, names, worst, strict=True):
        yield tag(
            "article",
            tag("div", tag("h3", name), tag("p", _chip(judged)), class_="headline"),
            tag("p", tag("b", headline(judged))),
            sections.command(judged),
            None if timeline is None else _worst_picture(timeline, window),
            sections.first_cause(judged),
            class_="card",
        )


def _worst(judged: Judged) -> Timeline | None:
    return max(timelines(judged.rehearsal), key=lambda each: each.lost, default=None)


def _worst_picture(timeline: Timeline, window: tuple[float, float]) -> Markup:
    chosen = ", which lost most" if timeline.lost and timeline.of > 1 else ""
    return tag(
        "figure",
        draw_death(timeline, WIDE - 120, window, style="wide"),
        draw_death(timeline, NARROW, window, style="narrow"),
        tag("figcaption", f"{sections.title_of(timeline)}{chosen}; the tables are further down"),
    )


def _figures(several: Sequence[Judged], names: Sequence[str]) -> Markup:
    head = tag(
        "tr", tag("th", "figure", scope="col"), (tag("th", n, scope="col", class_="number") for n in names)
    )
    body = (
        tag(
            "tr",
            tag("th", row.label, scope="row"),
            (
                tag("td", cell, class_="number best" if row.best == index else "number")
                for index, cell in enumerate(row.cells)
            ),
            class_="part" if row.is_part else None,
        )
        for row in rows(several)
    )
    return tag(
        "table",
        tag("caption", "Both in numbers; the better one in bold"),
        tag("thead", head),
        tag("tbody", body),
    )
