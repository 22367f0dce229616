"""The `turnlog` command.

The module of a subcommand is imported only when it runs, so that help appears at once.
"""

from importlib import import_module

import click

# name: (module, attribute, sentence in `turnlog --help`)
COMMANDS = {
    "serve": ("cli.serve", "serve", "Run the API, on an embedded PostgreSQL unless a database is given."),
    "log": ("cli.show_log", "log", "Read the event log."),
    "projections": ("cli.manage_projections", "projections", "Show, rebuild and verify the read models."),
}


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
    turnlog(prog_name="turnlog")


if __name__ == "__main__":
    main()
