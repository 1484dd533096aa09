"""L1: which file extension a media type deserves, the same on every machine."""

import mimetypes
from functools import cache, lru_cache
from typing import Final

#: What the web sends most. It goes before the standard library's table, which lacks some and surprises with others.
_EXTENSIONS: Final[dict[str, str]] = {
    "text/html": ".html",
    "application/xhtml+xml": ".xhtml",
    "text/plain": ".txt",
    "text/css": ".css",
    "text/csv": ".csv",
    "text/javascript": ".js",
    "application/javascript": ".js",
    "application/x-javascript": ".js",
    "text/markdown": ".md",
    "text/xml": ".xml",
    "application/xml": ".xml",
    "application/rss+xml": ".xml",
    "application/atom+xml": ".xml",
    "application/json": ".json",
    "application/ld+json": ".jsonld",
    "application/geo+json": ".geojson",
    "application/x-ndjson": ".ndjson",
    "application/yaml": ".yaml",
    "application/pdf": ".pdf",
    "application/epub+zip": ".epub",
    "application/wasm": ".wasm",
    "application/zip": ".zip",
    "application/x-zip-compressed": ".zip",
    "application/gzip": ".gz",
    "application/x-gzip": ".gz",
    "application/zstd": ".zst",
    "application/x-tar": ".tar",
    "application/x-7z-compressed": ".7z",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "image/svg+xml": ".svg",
    "image/tiff": ".tiff",
    "image/x-icon": ".ico",
    "image/vnd.microsoft.icon": ".ico",
    "font/woff": ".woff",
    "font/woff2": ".woff2",
    "font/ttf": ".ttf",
    "font/otf": ".otf",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/flac": ".flac",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/mpeg": ".mpg",
    # It says that nothing is known, so it names nothing.
    "application/octet-stream": "",
}


#: Longer ones are looked up without being remembered: they are no media type (RFC 6838 section 4.2), but may be many.
_LONGEST: Final = 255


def extension(content_type: str) -> str:
    """Return the extension for a Content-Type, with its dot: ``.html``; empty if there is no usual one.

    Parameters and letter case do not matter (RFC 9110 section 8.3.1).
    """
    return _remembered(content_type) if len(content_type) <= _LONGEST else _extension(content_type)


def _extension(content_type: str) -> str:
    essence = content_type.partition(";")[0].strip().lower()
    known = _EXTENSIONS.get(essence)
    return known if known is not None else _standard().guess_extension(essence) or ""


_remembered: Final = lru_cache(maxsize=1024)(_extension)


@cache
def _standard() -> mimetypes.MimeTypes:
    """Return the table built into Python, without the machine's own ``mime.types``."""
    return mimetypes.MimeTypes(filenames=())
