"""The lists of host names and origins in the settings are checked and normalised."""

import pytest

from api.settings import SettingsError, load_settings


def hosts(text: str) -> tuple[str, ...] | None:
    return load_settings(auth="keys", allowed_hosts=text).allowed_hosts


def origins(text: str, auth: str = "keys") -> tuple[str, ...] | None:
    return load_settings(auth=auth, cors_origins=text).cors_origins


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("example.com", ("example.com",)),
        (" Example.com , *.example.com,", ("example.com", "*.example.com")),
        ("api.example.com.", ("api.example.com",)),
        ("*", ("*",)),
        ("10.0.0.1,[::1],::2", ("10.0.0.1", "::1", "::2")),
        ("xn--bcher-kva.example,my_service", ("xn--bcher-kva.example", "my_service")),
        (" , ", None),
    ],
)
def test_host_names_are_separated_by_commas(text: str, names: tuple[str, ...] | None) -> None:
    assert hosts(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "example.com:80",
        "https://example.com",
        "a b",
        "*example.com",
        "ex*ample.com",
        "**.a",
        "bücher.example",
        "a..b",
        "-a",
    ],
)
def test_an_item_that_is_no_host_name_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^TURNLOG_ALLOWED_HOSTS: should be host names"):
        hosts(f"example.com,{text}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://app.example.com", ("https://app.example.com",)),
        ("HTTPS://App.Example.com/, http://b:8080", ("https://app.example.com", "http://b:8080")),
        ("https://a:443,http://b:80,http://c:443", ("https://a", "http://b", "http://c:443")),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
        ("*", ("*",)),
        (",", None),
    ],
)
def test_origins_are_as_browsers_send_them(text: str, found: tuple[str, ...] | None) -> None:
    assert origins(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "app.example.com",
        "https://",
        "https://a/path",
        "https://a?x",
        "https://a#x",
        "https://u:p@a",
        "https://*.example.com",
        "https://a b",
        "ftp://a",
        "https://a:x",
        "https://a:99999",
        "file://",
        "https://[::1",
    ],
)
def test_an_item_that_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^TURNLOG_CORS_ORIGINS: should be origins"):
        origins(text)


@pytest.mark.parametrize("text", ["http://localhost:3000", "http://127.0.0.1:5173,http://[::1]", "https://localhost"])
def test_pages_of_this_machine_are_allowed_without_authentication(text: str) -> None:
    assert origins(text, auth="none")


@pytest.mark.parametrize(
    "text", ["*", "https://app.example.com", "http://localhost:3000,http://10.0.0.1", "http://localhost.a"]
)
def test_other_pages_need_authentication(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^TURNLOG_CORS_ORIGINS: needs TURNLOG_AUTH"):
        origins(text, auth="none")


def test_host_names_need_authentication() -> None:
    with pytest.raises(SettingsError, match=r"^TURNLOG_ALLOWED_HOSTS: needs TURNLOG_AUTH"):
        load_settings(allowed_hosts="example.com")


def test_the_environment_gives_the_same_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNLOG_AUTH", "keys")
    monkeypatch.setenv("TURNLOG_ALLOWED_HOSTS", "a.example,*.b.example")
    monkeypatch.setenv("TURNLOG_CORS_ORIGINS", "https://a.example")
    settings = load_settings()
    assert (settings.allowed_hosts, settings.cors_origins) == (("a.example", "*.b.example"), ("https://a.example",))
