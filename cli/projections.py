"""`turnlog projections`: how far the read models have come."""

from datetime import UTC, datetime
from pathlib import Path

import click

from api.services import prepare
from cli.database import database_options, open_database, settings_for
from projections.catalog import read_status

FAILED = 1


@click.group()
def projections() -> None:
    """Look after the read models."""


@projections.command()
@database_options
def status(data_dir: Path | None, database_url: str | None) -> None:
    """Print each projection's version, position and lag, and what stopped it; exit code 1 if one is stopped."""
    settings = settings_for(data_dir, database_url)
    with open_database(data_dir, database_url) as conninfo:
        prepare(conninfo, settings.log_schema)
        head, rows = read_status(conninfo, settings.log_schema)
    click.echo(f"log position {head}")
    click.echo(f"{'NAME':<12} {'VERSION':>7} {'POSITION':>12} {'LAG':>8} {'IDLE':>8}  STATE")
    for row in rows:
        idle_s = (datetime.now(UTC) - row.updated_at).total_seconds()
        state = f"stopped at {row.error_position}: {row.error}" if row.error else "running"
        click.echo(
            f"{row.name:<12} {row.version:>7} {row.position:>12} {head - row.position:>8} {idle_s:>7.0f}s  {state}"
        )
    if any(row.error for row in rows):
        raise SystemExit(FAILED)
