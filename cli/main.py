"""The `turnlog` command. A subcommand's module is imported only when it runs, so that help comes at once."""

from importlib import import_module

import click

# name: (module, attribute, what `turnlog --help` says)
COMMANDS = {
    "serve": ("cli.serve", "serve", "Run the API, with its own PostgreSQL unless one is given."),
    "log": ("cli.show_log", "log", "Read the event log."),
    "projections": ("cli.manage_projections", "projections", "Look after the read models."),
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

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 a verification found a difference.
    """


def main() -> None:
    """The entry point of the installed command."""
    turnlog(prog_name="turnlog")


if __name__ == "__main__":
    main()
