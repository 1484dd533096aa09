"""L1: whether and when a failed attempt is made again."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from fetcher.errors import ONCE, ErrorKind, is_transient
from fetcher.model import Attempt

#: Transient for a later run, not for this one.
_LATER_RUN: Final = frozenset({ErrorKind.CANCELLED, ErrorKind.HOST_DOWN})

#: Where servers tell how much of a quota is left, and for how long: as two fields of numbers, and in one.
_QUOTA_FIELDS: Final = (("ratelimit-remaining", "ratelimit-reset"), ("x-ratelimit-remaining", "x-ratelimit-reset"))
_QUOTA: Final = "ratelimit"
_NOTHING: Final = re.compile(r"\s*0+(?:\.0*)?\s*(?:[,;]|$)")
_NUMBER: Final = re.compile(r"\s*([0-9]{1,15})(?:\.[0-9]*)?\s*(?:[,;]|$)")
_REMAINING: Final = re.compile(r"(?:^|[;,\s])(?:r|remaining)\s*=\s*0+\s*(?:[;,]|$)", re.IGNORECASE)
_RESET: Final = re.compile(r"(?:^|[;,\s])(?:t|reset)\s*=\s*([0-9]{1,15})\s*(?:[;,]|$)", re.IGNORECASE)
#: A reset beyond this is no number of seconds but a time since 1970, as some servers send it.
_EPOCH: Final = 1e9


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most ``count`` retries per request; a Retry-After up to ``max_wait`` seconds is obeyed.

    Without one, the wait is even between 0 and ``base``, then twice that, and so on up to ``cap``
    seconds: exponential backoff with full jitter, so that requests that failed together do not return together.
    """

    count: int
    max_wait: float
    base: float = 1.0
    cap: float = 60.0

    def delay(self, attempt: Attempt, retried: Sequence[str], random: float) -> float | None:
        """Return the seconds until the next attempt, or None if there shall be none.

        ``retried`` holds the kinds of error already retried, in order; ``random`` is even from 0 to 1.
        A Retry-After is never undercut, and exceeded by a tenth or a second at most, whichever is less.
        """
        error = attempt.error
        if error is None or not is_transient(error.kind) or error.kind in _LATER_RUN:
            return None
        if len(retried) >= self.count or (error.kind in ONCE and error.kind in retried):
            return None
        wait = attempt.retry_after
        if not wait or wait < 0:
            doublings = min(len(retried), 64)  # far above any cap, far below overflow
            return random * min(self.cap, self.base * 2.0**doublings)
        if wait > self.max_wait:
            return None
        return wait + random * min(1.0, wait / 10)


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds a Retry-After field asks to wait, ``now`` being seconds since 1970 (RFC 9110 section 10.2.3).

    Takes delay-seconds of any length and all three forms of HTTP-date (section 5.6.7).
    Junk, negative numbers and dates that are not ahead are None: as if the field had not been sent.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        # asctime-date names no zone and means UTC; parsedate_to_datetime also leaves "-0000" without one.
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def quota_reset(fields: Mapping[str, str], now: float) -> float | None:
    """Return the seconds until there is a quota again, if a response says that nothing is left of it; else None.

    Takes the RateLimit field of draft-ietf-httpapi-ratelimit-headers, in its older form of three parameters too, and
    the RateLimit-* and X-RateLimit-* fields before it, whose reset may be a time since 1970. Of several, the longest.
    """
    waits: list[float] = []
    for remaining, until in _QUOTA_FIELDS:
        if remaining in fields and _NOTHING.match(fields[remaining]):
            said = _NUMBER.match(fields.get(until, ""))
            seconds = float(said[1]) if said is not None else 0.0
            waits.append(seconds - now if seconds > _EPOCH else seconds)
    if _QUOTA in fields:
        one = fields[_QUOTA]
        # In the newer form a comma parts policies, each with its own r and t; in the older one it parts the parameters.
        empty = [policy for policy in (one.split(",") if ";" in one else [one]) if _REMAINING.search(policy)]
        waits += [float(said[1]) for policy in empty if (said := _RESET.search(policy)) is not None]
    longest = max(waits, default=0.0)
    return longest if longest > 0 else None
