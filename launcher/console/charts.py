"""Curves as SVG, made here: a browser without JavaScript sees them, and a report carries them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from launcher.console.html import EMPTY, joined, markup, number

_WIDTH, _HEIGHT = 520, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 24
_MOST_POINTS = 400
_MOST_DOTS = 40


@dataclass(frozen=True)
class Curve:
    """Points of one curve, by rising ``x``; none is infinite or not a number.

    Attributes:
        lower, upper: the ends of the interval around ``y``; empty where there is none.
        color: 0 to 5.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    lower: Sequence[float] = ()
    upper: Sequence[float] = ()
    color: int = 0


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval; without them where it has none."""

    name: str
    value: float
    lower: float | None = None
    upper: float | None = None


class _Scale:
    """Places values between two ends of the picture."""

    def __init__(self, values: Sequence[float], begin: float, end: float, *, padded: bool = False) -> None:
        low, high = min(values), max(values)
        if low == high:
            low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
        elif padded:
            low, high = low - (high - low) * 0.05, high + (high - low) * 0.05
        self._low, self._high, self._begin, self._end = low, high, begin, end

    def __call__(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(self._begin + share * (self._end - self._begin), 1)

    def ticks(self, count: int) -> list[float]:
        """Return round numbers between the ends, about ``count``."""
        rough = (self._high - self._low) / count
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
        first = math.ceil(self._low / step)
        return [round(index * step, 12) for index in range(first, math.floor(self._high / step) + 1)]


def chart(
    title: str, curves: Sequence[Curve], *, x_label: str = "", baseline: tuple[str, float] | None = None
) -> Markup:
    """Return a figure of curves over one another; nothing where none has a point.

    Args:
        baseline: name and height of a horizontal line.
    """
    curves = [_thinned(curve) for curve in curves if curve.x]
    if not curves:
        return EMPTY
    heights = [value for curve in curves for value in (*curve.y, *curve.lower, *curve.upper)]
    heights += [baseline[1]] if baseline else []
    across = _Scale([value for curve in curves for value in curve.x], _LEFT, _WIDTH - _RIGHT)
    up = _Scale(heights, _HEIGHT - _BOTTOM, _TOP, padded=True)
    lines = joined(
        markup('<path class="grid" d="M{} {}H{}"/><text x="{}" y="{}" class="y">{}</text>',
               _LEFT, up(tick), _WIDTH - _RIGHT, _LEFT - 8, up(tick) + 4, number(tick))
        for tick in up.ticks(4)
    )  # fmt: skip
    ticks = joined(
        markup('<text x="{}" y="{}" class="x">{}</text>', across(tick), _HEIGHT - 6, number(tick))
        for tick in across.ticks(6)
    )
    level = EMPTY
    if baseline:
        height = up(baseline[1])
        level = markup('<path class="baseline" d="M{} {}H{}"/>', _LEFT, height, _WIDTH - _RIGHT)
    drawn = joined(_drawn(curve, across, up) for curve in curves)
    words = "; ".join(_words(curve) for curve in curves)
    names = [
        markup('<span class="key k{}">{}</span>', curve.color, curve.name) for curve in curves if curve.name != title
    ]
    if baseline:
        names.append(markup('<span class="key line">{} {}</span>', baseline[0], number(baseline[1])))
    legend = markup('<span class="keys">{}</span>', joined(names)) if baseline or len(names) > 1 else EMPTY
    last = markup('<span class="last">{}</span>', number(curves[0].y[-1])) if len(curves) == 1 else EMPTY
    return markup(
        '<figure><figcaption>{}{}{}<span class="axis">{}</span></figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}: {}">{}{}{}{}</svg></figure>',
        *(title, last, legend, x_label, _WIDTH, _HEIGHT, title, words, lines, ticks, level, drawn),
    )


def intervals_chart(title: str, intervals: Sequence[Interval], baseline: tuple[str, float] | None) -> Markup:
    """Return a figure with a row for each value and its interval, and a vertical line to compare them with."""
    if not intervals:
        return EMPTY
    row, left = 26, 150
    height = row * len(intervals) + _BOTTOM + _TOP
    ends = [end for entry in intervals for end in (entry.value, entry.lower, entry.upper) if end is not None]
    across = _Scale([*ends, *([baseline[1]] if baseline else [])], left, _WIDTH - 70, padded=True)
    bottom = height - _BOTTOM
    parts = [
        markup('<path class="grid" d="M{} {}V{}"/><text x="{}" y="{}" class="x">{}</text>',
               across(tick), _TOP, bottom, across(tick), height - 6, number(tick))
        for tick in across.ticks(5)
    ]  # fmt: skip
    if baseline:
        parts.append(markup('<path class="baseline" d="M{} {}V{}"/>', across(baseline[1]), _TOP, bottom))
    for index, entry in enumerate(intervals):
        y = _TOP + row * index + row // 2
        parts.append(markup('<text x="{}" y="{}" class="y name">{}</text>', left - 10, y + 4, entry.name))
        if entry.lower is not None and entry.upper is not None:
            low, high = across(entry.lower), across(entry.upper)
            parts.append(markup('<path class="whisker" d="M{} {}H{}M{} {}v8M{} {}v8"/>',
                                low, y, high, low, y - 4, high, y - 4))  # fmt: skip
        parts.append(markup('<circle class="dot k0" cx="{}" cy="{}" r="4"/>', across(entry.value), y))
        parts.append(markup('<text x="{}" y="{}" class="value">{}</text>', _WIDTH - 62, y + 4, number(entry.value)))
    words = "; ".join(
        f"{entry.name} {number(entry.value)}"
        + (f" from {number(entry.lower)} to {number(entry.upper)}" if entry.lower is not None else "")
        for entry in intervals
    )
    key = markup('<span class="keys"><span class="key line">{} {}</span></span>', baseline[0], number(baseline[1])) if (
        baseline
    ) else EMPTY  # fmt: skip
    return markup(
        "<figure><figcaption>{}{}</figcaption>"
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}: {}">{}</svg></figure>',
        *(title, key, _WIDTH, height, title, words, joined(parts)),
    )


def _drawn(curve: Curve, across: _Scale, up: _Scale) -> Markup:
    points = [(across(x), up(y)) for x, y in zip(curve.x, curve.y, strict=True)]
    parts = []
    if curve.lower:
        there = [f"{across(x)} {up(y)}" for x, y in zip(curve.x, curve.upper, strict=True)]
        back = [f"{across(x)} {up(y)}" for x, y in zip(curve.x, curve.lower, strict=True)]
        parts.append(markup('<path class="band k{}" d="M{}Z"/>', curve.color, "L".join([*there, *reversed(back)])))
    parts.append(markup('<path class="curve k{}" d="M{}"/>', curve.color, "L".join(f"{x} {y}" for x, y in points)))
    shown = range(len(points)) if len(points) <= _MOST_DOTS else (len(points) - 1,)
    parts += [
        markup('<circle class="dot k{}" cx="{}" cy="{}" r="{}"><title>{}: {} at {}</title></circle>',
               curve.color, *points[index], 3 if index == len(points) - 1 else 2,
               curve.name, number(curve.y[index]), number(curve.x[index]))
        for index in shown
    ]  # fmt: skip
    return joined(parts)


def _thinned(curve: Curve) -> Curve:
    """Return a curve of at most about ``_MOST_POINTS`` points: of each stretch its lowest and its highest."""
    count = len(curve.x)
    if count <= _MOST_POINTS:
        return curve
    stretch = -(-2 * count // _MOST_POINTS)
    indices = {0, count - 1}
    for begin in range(0, count, stretch):
        places = range(begin, min(count, begin + stretch))
        indices |= {min(places, key=curve.y.__getitem__), max(places, key=curve.y.__getitem__)}
    order = sorted(indices)

    def picked(values: Sequence[float]) -> list[float]:
        return [values[index] for index in order] if values else []

    return replace(curve, x=picked(curve.x), y=picked(curve.y), lower=picked(curve.lower), upper=picked(curve.upper))


def _words(curve: Curve) -> str:
    return (
        f"{curve.name}, {len(curve.x)} values, first {number(curve.y[0])}, last {number(curve.y[-1])}, "
        f"lowest {number(min(curve.y))}, highest {number(max(curve.y))}"
    )
