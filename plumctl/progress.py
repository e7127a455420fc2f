"""Signs of life for what takes longer than a second: on stderr, on a terminal only."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from plumctl import output
from plumctl.text import inert

#: Seconds of silence before anything shows.
QUIET_S = 1.0


class Progress:
    """What is being done now. `say` may be called from any thread."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str) -> None:
        self.text = text


@contextmanager
def working(text: str) -> Iterator[Progress]:
    """Show a spinner with the current text and the seconds gone while the body runs."""
    progress = Progress()
    progress.say(text)
    if not output.is_terminal(sys.stderr):
        yield progress
        return
    done = threading.Event()
    shower = threading.Thread(target=_show, args=(progress, done), name="progress", daemon=True)
    shower.start()
    try:
        yield progress
    finally:
        done.set()
        shower.join()


def _show(progress: Progress, done: threading.Event) -> None:
    if done.wait(QUIET_S):
        return
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(inert(progress.text), total=None)
        while not done.wait(0.1):
            bar.update(task, description=inert(progress.text))
