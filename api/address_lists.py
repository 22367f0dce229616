"""The lists of host names and of origins in the settings."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

ANY = "*"

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def host_names(items: list[str]) -> tuple[str, ...]:
    """Return host names in lower case, without the final dot.

    They are `*`, `*.example.com`, `example.com` or addresses such as `::1`.

    Raises:
        ValueError: an item is no host name, such as one with a port.
    """
    return tuple(map(_host_name, items))


def origins(items: list[str]) -> tuple[str, ...]:
    """Return origins as browsers send them, `*` or `https://app.example.com:8443`.

    Raises:
        ValueError: an item is no origin, such as one with a path.
    """
    return tuple(map(_origin, items))


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: `localhost`, 127.x.x.x or ::1."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(item: str) -> str:
    name = item.lower().removesuffix(".")
    if name == ANY or _NAME.fullmatch(name.removeprefix("*.")) or _is_ip_address(name.strip("[]")):
        return name.strip("[]")
    raise ValueError("should be host names without a port, separated by commas, such as example.com,*.example.com")


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _origin(item: str) -> str:
    if item == ANY:
        return item
    try:
        url = urlsplit(item.lower())
        host, port, default = url.hostname or "", url.port, _DEFAULT_PORTS.get(url.scheme)
    except ValueError:
        host, port, default, url = "", None, None, urlsplit("")
    name = f"[{host}]" if ":" in host else host
    plain = f"{url.scheme}://{name}"
    written = {plain, f"{plain}:{port}"}
    known = _NAME.fullmatch(host) or _is_ip_address(host)
    if default is None or not known or item.lower().removesuffix("/") not in written:
        raise ValueError("should be origins separated by commas, such as https://app.example.com")
    return plain if port in {None, default} else f"{plain}:{port}"
