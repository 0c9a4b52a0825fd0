"""The command line: `avgen generate | train | evaluate | ...`; arguments in, an exit code out.

Only argparse is imported here: numpy, PyAV and torch load when a command has work to do, so that
every `--help` answers at once.

Exit codes: 0 done; 1 a fault of avgen's, with its traceback (of `evaluate`: in the report); 2 the
input or the request was wrong, said in one line on stderr; 130 stopped with Ctrl-C.
The environment variable AVGEN_TRACEBACK=1 shows the traceback of an error instead of its line.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from avgen import __version__
from avgen.commands import (
    batch,
    compare,
    encoding,
    evaluate,
    export,
    generate,
    prepare,
    probe,
    provenance,
    reconstruct,
    resync,
    serve,
    train,
    verify,
)
from avgen.errors import UserError


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, as all of avgen's are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"avgen: error: {message} (`{self.prog} --help` lists what there is)\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command; `args.run(args)` of what it parses does the work."""
    parser = _Parser(
        prog="avgen",
        description="Make, train and look at clips whose picture and sound are made together.",
        epilog="`avgen COMMAND --help` explains a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"avgen {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in (
        ("generate", generate),
        ("serve", serve),
        ("batch", batch),
        ("verify", verify),
        ("provenance", provenance),
        ("prepare", prepare),
        ("encode", encoding),
        ("train", train),
        ("export", export),
        ("reconstruct", reconstruct),
        ("probe", probe),
        ("evaluate", evaluate),
        ("compare", compare),
        ("resync", resync),
    ):
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: what follows `avgen`; the process's own arguments where None.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser()
    try:
        args, rest = parser.parse_known_args(_with_dashes(arguments))
        if args.run is train.run:
            args.overrides = train.overrides(
                arguments
            )  # as typed: the recipe's keys have underscores
            rest = []
        elif args.run is export.run:
            args.overrides = export.overrides(arguments)
            rest = rest[len(args.overrides) :]
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        with _warnings_in_one_line():
            return args.run(args)
    except KeyboardInterrupt:
        print("avgen: stopped", file=sys.stderr)
        return 130
    except (UserError, OSError, MemoryError) as error:
        if os.environ.get("AVGEN_TRACEBACK") == "1":
            raise
        print(f"avgen: error: {_in_one_line(error)}", file=sys.stderr)
        return 2


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """What avgen warns of is said as its errors are; warnings of others stay as they are."""
    usual = warnings.formatwarning

    def in_one_line(message: Any, category: Any, filename: str, *rest: Any, **named: Any) -> str:
        if Path(filename).is_relative_to(Path(__file__).parent) and category is UserWarning:
            return f"avgen: warning: {' '.join(str(message).split())}\n"
        return usual(message, category, filename, *rest, **named)

    warnings.formatwarning = in_one_line
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _with_dashes(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--num_frames` written `--num-frames`; values stay as they are."""
    dashed = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        is_flag = name.startswith("--") and " " not in name
        dashed.append(name.replace("_", "-") + equals + value if is_flag else argument)
    return dashed


def _in_one_line(error: Exception) -> str:
    """What went wrong, naming the file first where there is one."""
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
