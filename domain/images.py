"""Image rules: the declared type must match the type detected from the bytes."""

import binascii
from base64 import b64decode, b64encode

from domain.errors import ContentPath, InvalidContentError, UnsupportedImageError

MEDIA_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MAX_URL_CHARACTERS = 8192


def sniff_media_type(data: bytes) -> str | None:
    """Return the media type detected from the first bytes of `data`, or None.

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


def check_image(
    media_type: str | None, data: str | None, url: str | None, sha256: str | None, path: ContentPath
) -> bytes | None:
    """Check an image block and return its bytes, or None if it holds none.

    A block holds either `url`, or `media_type` and base64 `data`, or `media_type` and the `sha256` of stored bytes.
    `path` is the place of the block.

    Raises:
        InvalidContentError: fields are missing or exclude each other, or the URL is not http or https.
        UnsupportedImageError: the bytes are not an image of that type.
    """
    match media_type, data, url, sha256:
        case None, None, str(), None:
            _check_url(url, path)
            return None
        case str(), None, None, str():
            _check_media_type(media_type)
            return None
        case str(), str(), None, None:
            _check_media_type(media_type)
            return _image_bytes(media_type, data)
        case _:
            raise InvalidContentError("an image holds either `url`, or `media_type` and `data`", path)


def _check_url(url: str, path: ContentPath) -> None:
    if not url.startswith(("https://", "http://")) or len(url) > MAX_URL_CHARACTERS:
        raise InvalidContentError("must be an http(s) address of at most 8192 characters", (*path, "url"))


def _check_media_type(media_type: str) -> None:
    if media_type not in MEDIA_TYPES:
        raise UnsupportedImageError(f"{media_type[:64]!r} is not one of {', '.join(MEDIA_TYPES)}.")


def _image_bytes(media_type: str, data: str) -> bytes:
    decoded = _decode(data)
    found = sniff_media_type(decoded)
    if found != media_type:
        raise UnsupportedImageError(f"The bytes are {found or 'no known picture'}, not {media_type}.")
    return decoded


def _decode(data: str) -> bytes:
    """Return the decoded bytes of canonical base64.

    Raises:
        UnsupportedImageError: `data` is not base64, or not canonical.
    """
    # Only the bytes are stored, so encoding them must give `data` again. Base64 allows other forms:
    # https://www.rfc-editor.org/rfc/rfc4648#section-3.5
    try:
        decoded = b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnsupportedImageError("The image's data is not base64.") from error
    if b64encode(decoded[-(len(decoded) % 3 or 3) :]).decode() != data[-4:]:
        raise UnsupportedImageError("The image's data is not the base64 of its bytes.")
    return decoded
