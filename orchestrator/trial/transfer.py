"""How far a download is, in one line: bar, bytes, rate, time left. Pure: bytes and moments come in as arguments."""

from __future__ import annotations

from dataclasses import dataclass, field

_WIDTH = 20
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(slots=True, kw_only=True)
class Transfer:
    """One download, from its first report."""

    name: str
    _started_s: float | None = field(default=None, init=False)
    _done_at_start: int = field(default=0, init=False)

    def line(self, done: int, total: int, *, at_s: float) -> str:
        """The line at a moment.

        Args:
            done: bytes that are here.
            total: bytes that are wanted.
            at_s: the moment, on a clock that does not jump.
        """
        if self._started_s is None:
            self._started_s, self._done_at_start = at_s, done
        share = min(1.0, done / total) if total else 1.0
        bar = "█" * round(share * _WIDTH)
        parts = [f"{bar:░<{_WIDTH}} {share:4.0%}", f"{readable_bytes(done)} of {readable_bytes(total)}"]
        rate = (done - self._done_at_start) / max(at_s - self._started_s, 1e-9)
        if rate >= 1 and done < total:
            parts += [f"{readable_bytes(rate)}/s", f"{_duration((total - done) / rate)} left"]
        return f"{self.name}  {', '.join(parts)}"


def readable_bytes(number: float) -> str:
    """For example `3.1 GB`: powers of 1000, as disks and hubs count."""
    power = 0
    while number >= 999.5 and power < len(_UNITS) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.1f} {_UNITS[power]}" if power and number < 10 else f"{number:.0f} {_UNITS[power]}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
