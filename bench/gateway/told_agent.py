"""`python -m bench.gateway.told_agent DIR MODELS PORT`: the agent, told of changes on standard input.

It begins with MODELS models, `model-0` and on, that answer at PORT, and one consumer for each digest that it
was told of. A line is a change, and the source's next view comes at once, as a watch of Kubernetes would have
it: `model NAME PORT` adds or moves one, `key DIGEST` adds a key, `revoke DIGEST` takes it back.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

from bench.gateway.setting import models
from rerank_gateway import agent
from rerank_gateway.models import Consumer, ServedModel, View


class ToldSource:
    """A source whose views follow the lines of a stream."""

    def __init__(self, served: tuple[ServedModel, ...], lines: asyncio.StreamReader) -> None:
        self._models = {model.name: model for model in served}
        self._keys: dict[str, Consumer] = {}
        self._lines = lines

    async def views(self) -> AsyncGenerator[View, None]:
        """Yield the first view, then one a line."""
        yield self._view()
        while line := await self._lines.readline():
            self._change(line.decode().split())
            yield self._view()
        await asyncio.Event().wait()

    def _view(self) -> View:
        return View(tuple(self._models.values()), tuple(self._keys.values()))

    def _change(self, words: list[str]) -> None:
        match words:
            case ["model", name, port]:
                (self._models[name],) = models({name: int(port)})
            case ["key", digest]:
                name = f"consumer-{digest[:16]}"
                self._keys[digest] = Consumer(name, digests=(digest,), models=("*",))
            case ["revoke", digest]:
                self._keys[digest] = replace(self._keys[digest], digests=())
            case _:
                raise ValueError(f"{words} is no change: see this module's docstring")


async def main(directory: Path, count: int, port: int) -> None:
    """Run until the process is ended."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    served = models({f"model-{number}": port for number in range(count)})
    await agent.run(ToldSource(served, lines), agent.Sockets.inside(directory), asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
