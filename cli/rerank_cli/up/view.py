"""What the user sees of a running `rerank up`: a live table on a terminal, else a line for each change."""

import re
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rerank_api.status import ModelState
from rerank_cli.up.standing import Standing

COLOURS = {
    ModelState.READY: "green",
    ModelState.IDLE: "dim",
    ModelState.DEGRADED: "yellow",
    ModelState.FAILED: "red",
}
STEPS = 10
"""A plain view tells progress within a state in this many steps."""


class View(Protocol):
    """Where the runner tells what happens. Nothing here can fail the runner."""

    def say(self, sentence: str) -> None:
        """Tell what the runner does."""

    def warn(self, sentence: str) -> None:
        """Tell what went wrong."""

    def line(self, source: str, text: str) -> None:
        """Pass on a line that a child wrote."""

    def show(self, models: tuple[Standing, ...]) -> None:
        """Show how the models stand now."""

    def print(self, what: RenderableType) -> None:
        """Show something once."""


def ended(what: str, how: str, pause: float, last_lines: tuple[str, ...]) -> str:
    """Say that a process ended, when it is started again, and what it said last."""
    said = "".join(f"\n    {line}" for line in last_lines)
    return f"{what} {how}; it is started again in {pause:.1f} s." + (
        f" Its last lines:{said}" if said else ""
    )


class PlainView:
    """Lines, for a file, a pipe or a log collector."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, object] = {}

    def say(self, sentence: str) -> None:
        """Tell what the runner does."""
        self._write(Text(sentence))

    def warn(self, sentence: str) -> None:
        """Tell what went wrong."""
        self._write(Text(sentence, style="yellow"))

    def line(self, source: str, text: str) -> None:
        """Pass on a line that a child wrote."""
        self._write(Text.assemble((f"{source} | ", "dim"), text))

    def print(self, what: RenderableType) -> None:
        """Show something once."""
        self._console.print(what, soft_wrap=isinstance(what, Text))

    def show(self, models: tuple[Standing, ...]) -> None:
        """Tell each model that has changed."""
        for model in models:
            news = (model.state, model.ready, _gist(model), _step(model.progress))
            if self._told.get(model.model) != news:
                self._told[model.model] = news
                self._write(_sentence(model))
        for gone in self._told.keys() - {model.model for model in models}:
            del self._told[gone]
            self._write(Text(f"{gone}: removed"))

    def _write(self, text: Text) -> None:
        self.print(text)


class LiveView(PlainView):
    """The same lines, above a table that is kept up to date. A context manager."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, auto_refresh=False)
        self._shown: tuple[Standing, ...] | None = None

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, models: tuple[Standing, ...]) -> None:
        """Draw the table again if anything in it has changed."""
        if models != self._shown:
            self._shown = models
            self._live.update(_table(models), refresh=True)


def _table(models: tuple[Standing, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("MODEL", "STATE", "READY", ""):
        table.add_column(heading, no_wrap=True)
    table.add_column("MESSAGE", overflow="fold")
    for model in models:
        share = model.progress
        bar = Text("") if share is None else ProgressBar(total=1.0, completed=share, width=16)
        state = Text(model.state.value, style=COLOURS.get(model.state, "cyan"))
        ready = f"{model.ready}/{model.replicas}"
        table.add_row(escape(model.model), state, ready, bar, Text(_message(model)))
    return table


def _sentence(model: Standing) -> Text:
    how_many = f" ({model.ready} of {model.replicas} replicas)" if model.replicas > 1 else ""
    share = "" if model.progress is None else f" {model.progress:.0%}"
    state = (model.state.value, COLOURS.get(model.state, "cyan"))
    return Text.assemble(f"{model.model}: ", state, f"{how_many}{share}: {_message(model)}")


def _message(model: Standing) -> str:
    """Return the message without the state that stands before it anyway."""
    return model.message.removeprefix(f"{model.state.value}: ")


def _gist(model: Standing) -> str:
    """Return what tells one message from the next; a count of bytes that grows is no news."""
    downloading = model.state is ModelState.DOWNLOADING
    return re.sub(r"[\d.]+", "#", model.message) if downloading else model.message


def _step(progress: float | None) -> int | None:
    return None if progress is None else int(progress * STEPS)
