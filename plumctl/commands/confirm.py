"""plumctl confirm"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import options, output
from plumctl.locate import connect

app = options.new_app()


@app.command(
    epilog=options.examples("plumctl apply -f shop.yaml --confirm 60", "plumctl confirm 17")
)
def confirm(
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="History number apply gave.")],
    socket: options.Socket = None,
) -> None:
    """Keep what apply --confirm made; without it plumd goes back at the deadline."""
    connect(socket).confirm(seq)
    output.note(f"History {seq} stays.")
    output.suggest(f"plumctl history {seq}")
