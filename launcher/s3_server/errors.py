"""The one error of the S3 that is built in: S3's own code and words, and what to do about it."""

from __future__ import annotations


class S3Error(Exception):
    """A request that S3 would refuse as well, or a store that cannot do what it is asked.

    Args:
        code: S3's own name for it, such as ``NoSuchBucket``.
        words: S3's own words for it.
        place: the bucket or object as a URI, or the file; may be empty.
        hint: what to do about it; may be empty.
        headers: further headers of the answer, such as the ETag of an object that was not modified.
    """

    def __init__(
        self, code: str, words: str, place: str = "", hint: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(code, words, place, hint)
        self.code = code
        self.words = words
        self.place = place
        self.hint = hint
        self.headers = headers or {}

    @property
    def message(self) -> str:
        """What happened, and where, in a line."""
        return f"{self.place}: {self.words} ({self.code})" if self.place else f"{self.words} ({self.code})"

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message
