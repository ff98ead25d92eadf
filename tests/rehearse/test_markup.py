"""Whatever is not markup is escaped."""

from __future__ import annotations

from graceful.rehearse.markup import Markup, tag, text


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "1 < 2 & 3", tag("b", ">")) == "<p>1 &lt; 2 &amp; 3<b>&gt;</b></p>"


def test_attributes_are_escaped_named_and_left_out() -> None:
    assert tag("a", href='"><script>', class_="x", aria_label="y", id=None) == (
        '<a href="&quot;&gt;&lt;script&gt;" class="x" aria-label="y"></a>'
    )


def test_coordinates_are_short() -> None:
    assert tag("rect", x=1.23456, y=2.0, width=3) == '<rect x="1.23" y="2" width="3"></rect>'


def test_void_elements_have_no_end() -> None:
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_what_is_nested_or_missing() -> None:
    assert tag("ul", (tag("li", each) for each in "ab"), None) == "<ul><li>a</li><li>b</li></ul>"
    assert text(["a", None, Markup("<br>")]) == "a<br>"


def test_no_control_character_gets_through() -> None:
    shown = tag("p", "\x00\x1b[31mred\udcff", title="\x07")

    assert shown == (
        '<p title="\N{REPLACEMENT CHARACTER}">\N{REPLACEMENT CHARACTER}red\N{REPLACEMENT CHARACTER}</p>'
    )
