"""How far a run is: a bar on a terminal, a line for each step elsewhere; on the standard error output."""

import os
import shutil
import sys
import time


class Progress:
    def __init__(self, stream=sys.stderr):
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.has_colour = self.is_terminal and not os.environ.get("NO_COLOR")
        is_unicode = (stream.encoding or "").lower().replace("-", "") == "utf8"
        self.full, self.empty = "█░" if is_unicode else "#."
        self.done, self.total, self.start, self.text = 0, 0, time.monotonic(), ""

    def expect(self, total):
        self.total = total

    def step(self, text):
        """What begins now."""
        self.text = text
        if self.is_terminal:
            self._draw()
        else:
            print(f"[{self.done + 1}/{self.total}] {text}", file=self.stream, flush=True)
        self.done += 1

    def note(self, text):
        """A line that stays."""
        self._erase()
        print(text, file=self.stream, flush=True)

    def end(self):
        self._erase()

    def _draw(self):
        share = self.done / max(self.total, 1)
        filled = round(24 * share)
        bar = self.full * filled + self.empty * (24 - filled)
        if self.has_colour:
            bar = f"\x1b[36m{bar}\x1b[0m"
        seconds = time.monotonic() - self.start
        left = f", {round(seconds / share - seconds)} s left" if share > 0.05 else ""
        room = shutil.get_terminal_size().columns - 34
        text = f"{self.text}{left}"[: max(room, 0)]
        print(f"\r\x1b[K{bar} {share:4.0%} {text}", end="", file=self.stream, flush=True)

    def _erase(self):
        if self.is_terminal:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
