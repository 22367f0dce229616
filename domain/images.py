"""Pictures are believed by their bytes, not by their label."""

import binascii
from base64 import b64decode

from domain.errors import InvalidContentError, UnsupportedImageError

MEDIA_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MAX_URL_CHARACTERS = 8192


def sniff_media_type(data: bytes) -> str | None:
    """Return the media type that the first bytes of `data` announce, or None for anything else.

    Signatures: the WHATWG MIME Sniffing Standard, section 6.1 (https://mimesniff.spec.whatwg.org/).
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def check_image(media_type: str | None, data: str | None, url: str | None, loc: tuple[str | int, ...]) -> None:
    """Hold an image block against its rules: either `url`, or `media_type` and base64 `data` that agree.

    Raises:
        InvalidContentError: the block is incomplete, says both, or its address is not http(s).
        UnsupportedImageError: the bytes are no picture of that type.
    """
    if url is not None and data is None and media_type is None:
        _check_url(url, loc)
        return
    if url is not None or data is None or media_type is None:
        raise InvalidContentError("an image holds either `url`, or `media_type` and `data`", loc)
    if media_type not in MEDIA_TYPES:
        raise UnsupportedImageError(f"{media_type[:64]!r} is not one of {', '.join(MEDIA_TYPES)}.")
    found = sniff_media_type(_decode(data))
    if found != media_type:
        raise UnsupportedImageError(f"The bytes are {found or 'no known picture'}, not {media_type}.")


def _check_url(url: str, loc: tuple[str | int, ...]) -> None:
    if not url.startswith(("https://", "http://")) or len(url) > MAX_URL_CHARACTERS:
        raise InvalidContentError("must be an http(s) address of at most 8192 characters", (*loc, "url"))


def _decode(data: str) -> bytes:
    try:
        return b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnsupportedImageError("The image's data is not base64.") from error
