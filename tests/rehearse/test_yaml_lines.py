# ruff: noqa: E501 - a table: what is written, and what is said of it in one line
"""YAML by lines, from whoever wrote it."""

from __future__ import annotations

import pytest

from graceful.rehearse.yaml_lines import LONGEST, ManifestError, Node, read


def plain(node: Node) -> object:
    match node.value:
        case dict() as fields:
            return {name: plain(each) for name, each in fields.items()}
        case list() as items:
            return [plain(each) for each in items]
        case value:
            return value


def one(text: str) -> object:
    (document,) = read(text, "f")
    return plain(document)


def refused(text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        read(text, "f")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hello", "hello"),
        ("'8000'", "8000"),
        ('"yes"', "yes"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("8000", 8000),
        ("-1", -1),
        ("0x1F", 31),
        ("0755", 493),
        ("0o17", 15),
        ("08", 8.0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("22:22", "22:22"),  # not 1342: no numbers to the base of 60
        ("2026-11-22", "2026-11-22"),
        ("9999999999999999999", 1e19),
        ("1" * 400, "1" * 400),
        ("yes", True),
        ("Off", False),
        ("TRUE", True),
    ],
)
def test_values(text: str, value: object) -> None:
    found = one(text)
    assert (found, type(found)) == (value, type(value))


def test_documents_without_the_empty_ones() -> None:
    assert [plain(each) for each in read("---\n---\na: 1\n---\n~\n---\n[b]\n", "f")] == [{"a": 1}, ["b"]]
    assert read("", "f") == []
    assert read("# nothing\n", "f") == []


def test_lines_are_those_of_the_names() -> None:
    (document,) = read("a:\n  - x\n  - y:\n      z\nb: 3\n", "f")
    assert isinstance(document.value, dict)
    (a, b) = (document.value["a"], document.value["b"])
    assert (a.line, b.line, b.written) == (1, 5, "3")
    assert isinstance(a.value, list)
    assert [each.line for each in a.value] == [2, 3]


def test_aliases_and_merges() -> None:
    text = """
base: &base {a: 1, b: 2}
more: &more {b: 3, c: 4}
one: {<<: *base, b: 5}
two: {b: 6, <<: [*base, *more], d: *more}
"""
    found = one(text)
    assert isinstance(found, dict)
    assert found["one"] == {"a": 1, "b": 5}
    assert found["two"] == {"a": 1, "b": 6, "c": 4, "d": {"b": 3, "c": 4}}


def test_what_is_repeated_a_billion_times_costs_no_more() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 30)]
    (document,) = read("\n".join(lines), "f")
    assert isinstance(document.value, dict)
    assert len(document.value) == 30


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: c: d", "f:2: no YAML: mapping values are not allowed here"),
        ("a: [1", "f:1: no YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: \x07", 'f: no YAML: unacceptable character #x0007: special characters are not allowed in "<unicode string>", position 3'),
        ("a: 1\nb: 2\na: 3", "f:3: a: found a second time; it stands on line 1 already"),
        ("a: !secret x", "f:1: found the tag !secret; expected plain values, without tags"),
        ("!!python/object/apply:os.system [id]", "f:1: found the tag tag:yaml.org,2002:python/object/apply:os.system; expected plain values, without tags"),
        ("- a\n- ? [b]\n  : c", "f:2: found a list or a mapping as a name; expected text"),
        ("a: *b", "f:1: found the alias *b; expected &b before it"),
        ("--- &b x\n--- *b", "f:2: found the alias *b; expected &b before it"),
        ("a: &a\n  - *a", "f:2: found *a within &a: it would contain itself"),
        ("a:\n  <<: 3", "f:2: <<: expected a mapping, or a list of them"),
        ('a: "\\0"', "f:1: found a zero character or half a surrogate pair; expected text"),
        ('a: "\\ud800"', "f:1: found a zero character or half a surrogate pair; expected text"),
        ("[" * 100_000, "f:1: found more than 50 levels; expected fewer"),
        ("- " * 100_000, "f:1: found more than 50 levels; expected fewer"),
        ("&a x: y\nb: [" + "*a, " * 1001 + "]", "f:2: found more than 1000 aliases; expected fewer"),
        ("x" * (LONGEST + 1), f"f: found {LONGEST + 1} characters; expected {LONGEST} at most"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, problem: str) -> None:
    assert refused(text) == problem


def test_merges_are_bounded() -> None:
    fields = "\n".join(f"  k{number}: 1" for number in range(500))
    text = f"x: &x\n{fields}\ny:\n  <<: [{', '.join(['*x'] * 50)}]"
    assert refused(text) == "f:503: <<: found more than 20000 fields that were merged in"


def test_an_error_keeps_its_facts() -> None:
    error = ManifestError("deploy.yaml", 31, "found\nit")
    assert (error.file, error.line, error.problem) == ("deploy.yaml", 31, "found\nit")
    assert str(error) == "deploy.yaml:31: found it"
