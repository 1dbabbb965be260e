"""`python -m van.router [SITE_FILE] [--check]`: read the configuration, run the site, end with an exit code.

The few arguments are parsed here, so that a router starts without the libraries of the command line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

from van.router import exit_codes

USAGE = "usage: python -m van.router [SITE_FILE] [--check] [--version] [--help]"

HELP = f"""\
{USAGE}

Run a router as SITE_FILE says, or without one a standalone router on amqp://127.0.0.1:5672.

  --check     only validate the configuration: every error on a line of its own, exit code 0 or 78
  --version   print the versions of van, Python and OpenSSL
  --help      print this

SIGTERM or SIGINT drains and ends the router, a second one ends it at once; SIGHUP reads the configuration again.
Exit codes: 0 ok, 1 failure (as a port that is taken), 2 usage, 78 bad configuration.
"""


class UsageError(Exception):
    """Arguments that cannot be understood."""


@attrs.frozen
class Arguments:
    """What was asked for on the command line. `site_file` is None for the embedded default."""

    site_file: Path | None = None
    check: bool = False
    version: bool = False
    help: bool = False


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Options and at most one file in any order; after `--` everything is a file. Raises `UsageError`."""
    files: list[str] = []
    options: set[str] = set()
    only_files = False
    for argument in arguments:
        if only_files or argument == "-" or not argument.startswith("-"):
            files.append(argument)
        elif argument == "--":
            only_files = True
        elif argument in {"--check", "--version", "--help", "-h"}:
            options.add("help" if argument == "-h" else argument[2:])
        else:
            raise UsageError(f"unknown option {argument}")
    if len(files) > 1:
        raise UsageError(f"one site file at most, got {len(files)}")
    return Arguments(Path(files[0]) if files else None, "check" in options, "version" in options, "help" in options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say and return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--worker"]:
        # Not for people: a router starts its further processes so.
        from van.router import worker

        return worker.main(given[1:])
    try:
        asked = parse_arguments(given)
    except UsageError as error:
        print(f"{error}\n{USAGE}", file=sys.stderr)
        return exit_codes.USAGE
    if asked.help:
        print(HELP, end="")
        return exit_codes.OK
    if asked.version:
        from van.router.version import version_line

        print(version_line())
        return exit_codes.OK
    return run(asked)


def run(asked: Arguments) -> int:
    """Validate the configuration, and run the site unless only that was asked for."""
    from van.router.config import ConfigurationError, default_config, load_config

    try:
        config = default_config() if asked.site_file is None else load_config(asked.site_file)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return exit_codes.BAD_CONFIGURATION
    if asked.check:
        for warning in config.warnings:
            print(f"{asked.site_file}: warning: {warning}", file=sys.stderr)
        print(f"{asked.site_file or 'the embedded default'}: valid")
        return exit_codes.OK

    # log first: it keeps structlog from loading what a router does not need
    from van.router import log

    log.configure(config.log, router=config.router.id)
    import trio

    from van.router.site import run_site

    return trio.run(run_site, config)


if __name__ == "__main__":
    sys.exit(main())
