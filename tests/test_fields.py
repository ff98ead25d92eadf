"""What can be set, how values are read, and what cannot be meant."""

from __future__ import annotations

import math
from pathlib import PurePosixPath

import pytest

from graceful.errors import SettingsError
from graceful.fields import FIELDS, LONGEST, Reader, environment_of, service_of


def reader(name: str, value: object) -> Reader:
    return Reader({name: value}, {}, {})


def test_names_of_a_field() -> None:
    names = {each.name: (each.environment, each.option) for each in FIELDS}
    assert names["lame_duck"] == ("GRACEFUL_LAME_DUCK", "--lame-duck")
    assert len(names) == len(FIELDS) == 15
    assert all(each.help for each in FIELDS)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5.0),
        (0.5, 0.5),
        ("5", 5.0),
        (" 2.5 ", 2.5),
        ("1e1", 10.0),
        (0, 0.0),
        ("+3", 3.0),
        (LONGEST, LONGEST),
    ],
)
def test_seconds(value: object, seconds: float) -> None:
    assert reader("lame_duck", value).seconds("lame_duck", 1.0) == seconds


def test_negative_zero_is_zero() -> None:
    assert math.copysign(1, reader("lame_duck", "-0").seconds("lame_duck", 1.0)) == 1


NO_SECONDS = [
    *("abc", "", " ", "5s", "1_000", "1,5", "nan", "inf", "-inf", "-1", "1e400"),
    *(math.nan, math.inf, -0.001, LONGEST * 1.001, 10**400, True, False, [], b"5", 5j, object),
]


@pytest.mark.parametrize("value", NO_SECONDS)
@pytest.mark.parametrize("name", [each.name for each in FIELDS if each.kind == "seconds"])
def test_no_seconds(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match="seconds as a number") as caught:
        reader(name, value).seconds(name, 1.0)
    assert caught.value.field == name
    assert caught.value.found is value
    assert len(str(caught.value).splitlines()) == 1


def test_what_must_be_positive() -> None:
    with pytest.raises(SettingsError, match="more than 0"):
        reader("stall_after", 0).seconds("stall_after", 1.0, positive=True)


@pytest.mark.parametrize("value", ["", "/", "/healthz", "/a/b.c-d_e~", "/gesund/ü"])
def test_paths(value: str) -> None:
    assert reader("ready_path", value).path("ready_path", "/ready") == value


@pytest.mark.parametrize(
    "value", ["ready", " ", "/a b", "/a?b", "/a#b", "/%41", "/a\n", "/\x00", "http://a/", 5, True]
)
def test_no_paths(value: object) -> None:
    with pytest.raises(SettingsError, match=r"^ready_path: .*a path that begins with /") as caught:
        reader("ready_path", value).path("ready_path", "/ready")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "port"), [(9000, 9000), ("9000", 9000), (" 0 ", 0), (65535, 65535), ("", None)]
)
def test_ports(value: object, port: int | None) -> None:
    assert reader("admin_port", value).port("admin_port") == port


@pytest.mark.parametrize(
    "value", [-1, 65536, "65536", "-1", "80a", "http", "8_0", "1e3", 80.0, True, False, None, "٣"]
)
def test_no_ports(value: object) -> None:
    if value is None:
        assert reader("admin_port", value).port("admin_port") is None
        return
    with pytest.raises(SettingsError, match="a port from 0"):
        reader("admin_port", value).port("admin_port")


@pytest.mark.parametrize(
    ("value", "text"),
    [("::1", "::1"), ("", None), (PurePosixPath("/tmp/a b"), "/tmp/a b")],  # noqa: S108 - not opened
)
def test_texts(value: object, text: str | None) -> None:
    assert reader("termination_log", value).text("termination_log", "x") == text


@pytest.mark.parametrize("value", ["a\nb", "a\x1b[2J", 5, True, b"a"])
def test_no_texts(value: object) -> None:
    with pytest.raises(SettingsError, match="one line of text"):
        reader("admin_host", value).text("admin_host", None)


@pytest.mark.parametrize("value", ["1", "true", "True", "YES", " on ", 1, True])
def test_flags_that_are_set(value: object) -> None:
    assert reader("exit_by_signal", value).flag("exit_by_signal", default=False) is True


@pytest.mark.parametrize("value", ["0", "false", "FALSE", "No", "off", 0, False])
def test_flags_that_are_not_set(value: object) -> None:
    assert reader("exit_by_signal", value).flag("exit_by_signal", default=True) is False


@pytest.mark.parametrize("value", ["", "2", "maybe", "truee", 2, 1.0, []])
def test_no_flags(value: object) -> None:
    with pytest.raises(SettingsError, match="one of 1, true, yes, on, 0, false, no, off"):
        reader("exit_by_signal", value).flag("exit_by_signal", default=True)


@pytest.mark.parametrize(
    ("arguments", "options", "environ", "seconds", "source"),
    [
        ({}, {}, {}, 7.0, None),
        ({"lame_duck": None}, {"lame_duck": None}, {}, 7.0, None),
        ({"lame_duck": 1}, {}, {}, 1.0, "argument"),
        ({"lame_duck": 1}, {}, {"GRACEFUL_LAME_DUCK": "2"}, 2.0, "GRACEFUL_LAME_DUCK"),
        ({"lame_duck": 1}, {"lame_duck": "3"}, {"GRACEFUL_LAME_DUCK": "2"}, 3.0, "option --lame-duck"),
        ({"lame_duck": 1}, {"lame_duck": "3"}, {}, 3.0, "option --lame-duck"),
        (
            {"lame_duck": "no number"},
            {"lame_duck": 0},
            {"GRACEFUL_LAME_DUCK": "nor this"},
            0.0,
            "option --lame-duck",
        ),
    ],
)
def test_precedence(
    arguments: dict[str, object],
    options: dict[str, object],
    environ: dict[str, str],
    seconds: float,
    source: str | None,
) -> None:
    read = Reader(arguments, options, environ)
    assert read.seconds("lame_duck", 7.0) == seconds
    assert {name: given.source for name, given in read.given.items()} == (
        {"lame_duck": source} if source else {}
    )


@pytest.mark.parametrize(
    ("options", "environ", "place"),
    [
        ({}, {}, "argument lame_duck"),
        ({}, {"GRACEFUL_LAME_DUCK": "abc"}, "GRACEFUL_LAME_DUCK"),
        ({"lame_duck": "abc"}, {}, "option --lame-duck"),
    ],
)
def test_a_refusal_says_where_to_correct(
    options: dict[str, object], environ: dict[str, str], place: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Reader({"lame_duck": "abc"}, options, environ).seconds("lame_duck", 1.0)
    assert str(caught.value) == (
        "lame_duck: found 'abc'; expected seconds as a number, 0 or more, 31536000 at most; "
        f"correct or leave out {place}"
    )


@pytest.mark.parametrize("kind", ["arguments", "options"])
def test_a_name_that_is_no_setting(kind: str) -> None:
    given: dict[str, dict[str, object]] = {"arguments": {}, "options": {}} | {kind: {"lame_duk": 3}}
    with pytest.raises(SettingsError, match=r"lame_duk: found 3; .* the nearest is lame_duck"):
        Reader(**given, environ={})


@pytest.mark.parametrize(
    ("name", "value", "service"),
    [
        ("GRACEFUL_ADMIN_PORT", "tcp://10.0.0.1:80", "graceful-admin"),
        ("GRACEFUL_ADMIN_PORT", "udp://[fd00::1]:80", "graceful-admin"),
        ("GRACEFUL_ADMIN_PORT", "9000", None),
        ("GRACEFUL_PORT", "tcp://10.0.0.1:80", "graceful"),
        ("GRACEFUL_SERVICE_HOST", "10.0.0.1", "graceful"),
        ("GRACEFUL_ADMIN_SERVICE_HOST", "10.0.0.1", "graceful-admin"),
        ("GRACEFUL_DEMO_SERVICE_PORT", "80", "graceful-demo"),
        ("GRACEFUL_MY_DEMO_SERVICE_PORT_HTTP_2", "80", "graceful-my-demo"),
        ("GRACEFUL_ADMIN_PORT_80_TCP", "tcp://10.0.0.1:80", "graceful-admin"),
        ("GRACEFUL_ADMIN_PORT_80_TCP_PROTO", "tcp", "graceful-admin"),
        ("GRACEFUL_ADMIN_PORT_80_SCTP_PORT", "80", "graceful-admin"),
        ("GRACEFUL_ADMIN_PORT_80_UDP_ADDR", "10.0.0.1", "graceful-admin"),
        ("GRACEFUL_ADMIN_HOST", "10.0.0.1", None),
        ("GRACEFUL_LAME_DUCK", "tcp://10.0.0.1:80", None),
        ("GRACEFULLY_SERVICE_HOST", "10.0.0.1", None),
    ],
)
def test_service_links(name: str, value: str, service: str | None) -> None:
    assert service_of(name, value) == service


def test_service_links_are_said_in_one_warning() -> None:
    links = {
        "GRACEFUL_ADMIN_PORT_80_TCP_ADDR": "10.0.0.1",
        "GRACEFUL_ADMIN_PORT": "tcp://10.0.0.1:80",
        "GRACEFUL_ADMIN_SERVICE_HOST": "10.0.0.1",
        "GRACEFUL_DEMO_SERVICE_PORT": "80",
    }
    settings, warnings = environment_of(links | {"GRACEFUL_LAME_DUCK": "1", "PATH": "/bin"})
    assert settings == {"GRACEFUL_LAME_DUCK": "1"}
    (warning,) = warnings
    assert warning == (
        "ignored GRACEFUL_ADMIN_PORT, GRACEFUL_ADMIN_PORT_80_TCP_ADDR, GRACEFUL_ADMIN_SERVICE_HOST, ...: "
        "not settings but Kubernetes' service links to graceful-admin, graceful-demo; "
        "enableServiceLinks: false in the pod's spec leaves them out"
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("GRACEFUL_LAMEDUCK", "GRACEFUL_LAME_DUCK"),
        ("GRACEFUL_GRACE", "GRACEFUL_GRACE_PERIOD"),
        ("GRACEFUL_TIMEOUT", "GRACEFUL_DRAIN_TIMEOUT"),
        ("GRACEFUL_HEALTH_PATH", "GRACEFUL_HEALTHZ_PATH"),
        ("GRACEFUL_PRESTOP", "GRACEFUL_PRE_STOP"),
    ],
)
def test_an_unknown_name_hears_of_the_nearest(name: str, nearest: str) -> None:
    assert environment_of({name: "1"}) == (
        {},
        (f"ignored {name}: no such setting; the nearest is {nearest}",),
    )


def test_warnings_of_unknown_names_are_sorted_and_of_one_line() -> None:
    _, warnings = environment_of({"GRACEFUL_Z": "", "GRACEFUL_": "", "GRACEFUL_A\nB": ""})
    assert [warning.split(":")[0] for warning in warnings] == [
        "ignored GRACEFUL_",
        r"ignored 'GRACEFUL_A\nB'",
        "ignored GRACEFUL_Z",
    ]
    assert all(len(warning.splitlines()) == 1 for warning in warnings)
