"""The page as a document: what it holds, how it is built, and that nothing in it is foreign or live."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from graceful.rehearse.figures import Judged
from graceful.rehearse.judging import judge
from graceful.rehearse.model import Rehearsal
from graceful.rehearse.overview import lives
from graceful.rehearse.page import as_page
from graceful.rehearse.picture import Axis, description
from graceful.rehearse.timeline import timelines
from tests.rehearse import broken
from tests.rehearse.made import GOOD, HELD, SERVICE, Manners, made, plan
from tests.rehearse.test_story import REPORT

HOSTILE = (
    "</pre></style><script>alert(1)</script><img src=//evil.example onerror=x>\"'\x00\x1b[2J\udcff\u202e"
)
VOID = {"meta", "link", "br"}


class Document(HTMLParser):
    """Elements with their attributes and their text; fails where a tag is left open or closed twice."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def judged(rehearsal: Rehearsal) -> Judged:
    return Judged(rehearsal=rehearsal, verdict=judge(rehearsal))


def document(*several: Rehearsal) -> Document:
    return Document(as_page([judged(each) for each in several]))


def hostile() -> Rehearsal:
    service = replace(SERVICE, name=HOSTILE, command=("app", HOSTILE))
    rehearsal = made(Manners(closes=0.0, ends=0.7, not_ready=0.1, output=HOSTILE), plan(service))
    return replace(
        rehearsal,
        events=tuple(replace(event, detail=HOSTILE) for event in rehearsal.events),
        entries=tuple(replace(entry, detail=HOSTILE, kind=HOSTILE) for entry in rehearsal.entries),
    )


@pytest.mark.parametrize("make", [make for make, _ in broken.BROKEN], ids=lambda make: make.__name__)
def test_every_broken_service_has_a_whole_page(make: Callable[[], Rehearsal]) -> None:
    rehearsal = make()
    page = document(rehearsal)
    [first, *_] = judge(rehearsal).diagnoses

    assert first.seen.lower() in page.text.lower()
    assert first.way_out.lower() in page.text.lower()
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert max(Counter(ids).values()) == 1
    links = [str(attributes["href"]).removeprefix("#") for attributes in page.all("a")]
    assert set(links) <= set(ids)


def test_a_good_service_says_so() -> None:
    page = document(made(replace(GOOD, output=REPORT), plan(holds=(HELD,))))

    assert "Nothing lost of 644" in page.text
    assert "passed" in page.text
    assert "by its own report lame duck 2.0 s, drain" in page.text
    assert "2 of events at /events" in page.text
    assert "GET /ready every 1 s, timeout 1 s, 1 failure in a row" in page.text


def test_headings_go_down_one_step_at_a_time() -> None:
    for page in (document(hostile()), document(hostile(), made())):
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]

        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_landmarks_and_names_are_there() -> None:
    page = document(broken.closes_the_listener_early())
    names = [tag for tag, _ in page.elements]

    assert [names.count(landmark) for landmark in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    assert page.all("html")[0]["lang"] == "en"
    assert all("aria-labelledby" in section for section in page.all("section"))
    assert all(picture["role"] == "img" for picture in page.all("svg"))
    assert all(header["scope"] in {"row", "col"} for header in page.all("th"))
    assert names.count("table") == names.count("caption") == names.count("thead")


def test_nothing_is_loaded_and_nothing_runs() -> None:
    page = as_page([judged(hostile())])
    found = Document(page)
    names = {tag for tag, _ in found.elements}
    policy = next(meta for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")

    assert not names & {"script", "img", "iframe", "object", "embed", "form", "input", "base"}
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert [link["href"][:5] for link in found.all("link") if link["href"]] == ["data:"]
    assert str(policy["content"]).startswith("default-src 'none'")
    assert not re.search(r"url\(|@import|@font-face", page)


def test_a_hostile_service_is_shown_as_it_is() -> None:
    page = as_page([judged(hostile()), judged(made())])

    assert "<script>" not in page
    assert "<script>alert(1)</script>" in Document(page).text
    assert not {"\x00", "\x1b", "\udcff", "\u202e"} & set(page)
    page.encode()


def test_no_secret_of_the_environment_is_shown() -> None:
    service = replace(SERVICE, environment={"PASSWORD": "s3cret"})

    assert "s3cret" not in as_page([judged(made(GOOD, plan(service)))])


def test_what_a_process_wrote_is_there_to_be_read() -> None:
    assert "last words" in document(made(replace(GOOD, output="last words\n"))).text


def test_two_services_stand_side_by_side() -> None:
    other = replace(SERVICE, name="shop under graceful")
    page = document(broken.closes_the_listener_early(), made(GOOD, plan(other)))

    assert "shop: 104 of 363 lost; shop under graceful: Nothing lost of 642" in page.text
    assert "Restart 1 of 3: shop-1, which lost most" in page.text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert {"side-by-side", "service-1", "service-2", "service-1-why", "service-2-plan"} <= set(ids)
    assert len(ids) == len(set(ids))


def test_two_services_of_which_one_could_not_be_rehearsed() -> None:
    page = document(made(), broken.not_ready_in_time())

    assert "No verdict" in page.text


def test_a_picture_is_also_a_sentence() -> None:
    [first, *_] = timelines(broken.closes_the_listener_early())

    assert description(first) == (
        "66 requests were sent to shop-1, 38 were lost; the listener closed 0.0 s after the signal; "
        "the endpoint was removed 2.0 s after the signal; the process ended 0.6 s after the signal"
    )


def test_the_axis_has_few_and_round_ticks() -> None:
    axis = Axis(begins=-1.1, ends=30.4, width=310)

    assert list(axis.ticks) == [0.0, 10.0, 20.0, 30.0]
    assert axis.slot == 1.0
    assert (axis.x(-5), axis.x(99)) == (0.0, 310.0)


def test_each_replica_has_its_life() -> None:
    first, second = lives(broken.crashes())

    assert (first.how, first.lost, first.taken_away) == ("exit code 0", 0, pytest.approx(1.4))
    assert (second.how, second.lost, second.ended) == ("ended 1 time untimely", 6, None)
    assert [bar.style for bar in second.bars] == ["waiting", "listed", "waiting", "listed"]
    assert [bar.style for bar in first.bars] == ["waiting", "listed", "leaving"]


def test_the_life_of_one_that_was_killed_by_its_probe_and_later_for_good() -> None:
    rehearsal = broken.killed_by_liveness()
    [first, _] = lives(replace(broken.ignores_the_signal(), events=rehearsal.events))[:2]

    assert first.how == "killed"
