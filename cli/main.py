"""The `turnlog` command.

The module of a subcommand is imported only when it runs, so that help appears at once.
"""

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

import click

# name: (module, attribute, sentence in `turnlog --help`)
COMMANDS = {
    "serve": ("cli.serve", "serve", "Run the API, on an embedded PostgreSQL unless a database is given."),
    "log": ("cli.show_log", "log", "Read, verify and export the event log."),
    "replay": ("cli.reading.replay_conversation", "replay", "Play a conversation as it happened."),
    "import": ("cli.imports.import_conversations", "import_export", "Record what other programs exported."),
    "keys": ("cli.manage_keys", "keys", "Create, list and revoke the keys for the API."),
    "projections": ("cli.manage_projections", "projections", "Show, rebuild and verify the read models."),
}


_UNWRITABLE = (errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC)
"""Errors of an output that takes no more. click ends a command quietly whose reader has gone."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        return getattr(import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, _, sentence) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="turnlog")
def turnlog() -> None:
    """Turnlog, an event-sourced conversation store for LLM applications.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 3 a verification found differences.
    """


def main() -> None:
    """Run the command. This is its entry point after installation."""
    try:
        turnlog(prog_name="turnlog")
    except SystemExit as ending:
        if isinstance(ending.code, int):
            end_process(ending.code)
        raise
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        click.echo(f"Error: The output cannot be written: {error.strerror}.", err=True)
        end_process(1)


def end_process(code: int) -> NoReturn:
    """End this process. Do not wait for a model library that still loads.

    Everything else has to be closed before.
    """
    # A process that has not imported the module loads no library. Importing it here would only take time.
    if "turns.model.litellm_library" in sys.modules:
        from turns.model.litellm_library import is_loading

        if is_loading():
            # The end of the interpreter would wait for the thread that loads it.
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):  # its reader is gone
                    stream.flush()
            os._exit(code)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
