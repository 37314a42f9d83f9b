"""The decorator that makes a command of a function, and one invocation of it."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import typer

from penstock.cli.options import Options, parameters

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["NOTHING_CHANGED", "command"]

P = ParamSpec("P")
#: The hint of an interrupted command that only reads.
NOTHING_CHANGED = "Run it again: it changes nothing."


def command(
    app: typer.Typer, name: str, *, takes: tuple[str, ...], interrupted: str = NOTHING_CHANGED, acts: bool = False
) -> Callable[[Callable[Concatenate["Run", P], None]], Callable[..., int]]:
    """Register a function as the command `name`, with the shared options `takes` after its own parameters.

    The function gets a `Run` first. What is registered returns the exit code and raises no expected error.
    `interrupted` is the hint when it is interrupted: what state things are in, and what to do. With `acts`, the exit
    code tells what became of the work even where nothing can be printed.
    """

    def register(body: Callable[Concatenate["Run", P], None]) -> Callable[..., int]:
        def invoke(**values: Any) -> int:
            from penstock.api.stopping import StopToken
            from penstock.cli.guard import Guard
            from penstock.cli.output.console import Output
            from penstock.cli.run import Run

            options = Options(**{option: values.pop(option) for option in takes})
            output = Output(json=options.json, quiet=options.quiet, acts=acts)
            run = Run(options, output, StopToken())
            call: Callable[..., None] = body

            def work() -> None:
                try:
                    call(run, **values)
                finally:
                    run.close()

            return Guard(output, run.stop, hint=interrupted, requesting=run.requesting).run(work)

        own = list(inspect.signature(body).parameters.values())[1:]
        all_of_them = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *parameters(takes)]
        # typer reads a function's signature and its annotations; these are the ones that it is called with.
        invoke.__dict__["__signature__"] = inspect.Signature(all_of_them)
        invoke.__annotations__ = {one.name: one.annotation for one in all_of_them}
        invoke.__doc__ = body.__doc__
        invoke.__name__ = body.__name__
        app.command(name)(invoke)
        return invoke

    return register
