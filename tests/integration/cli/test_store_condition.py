"""The condition of a database that does not answer, by its data directory."""

import shutil

from api.settings import load_settings
from cli.store_condition import store_condition
from postgres.embedded import EmbeddedPostgres
from tests.support.servers.own_postgres import cluster_directory, kill_postgres


def test_an_embedded_postgresql_is_unreachable_restarting_or_stopped() -> None:
    with cluster_directory() as data_dir:
        settings = load_settings(data_dir=data_dir)
        with EmbeddedPostgres(data_dir) as embedded:
            assert store_condition(settings, embedded.conninfo) == "unreachable"  # it runs and should answer
            assert store_condition(settings, "host=/another") == "unreachable"
            kill_postgres(data_dir)
            assert store_condition(settings, embedded.conninfo) == "restarting"
            conninfo = embedded.conninfo
        with EmbeddedPostgres(data_dir):
            pass
        assert store_condition(settings, conninfo) == "stopped"


def test_a_data_directory_that_is_being_replaced_leaves_the_condition_unknown() -> None:
    with cluster_directory() as data_dir:
        with EmbeddedPostgres(data_dir) as embedded:
            conninfo = embedded.conninfo
        shutil.rmtree(data_dir / "postgres")
        (data_dir / "postgres").write_text("")
        assert store_condition(load_settings(data_dir=data_dir), conninfo) == "unreachable"
        (data_dir / "postgres").unlink()


def test_another_postgresql_is_unreachable() -> None:
    url = "postgresql://somewhere/db"
    assert store_condition(load_settings(database_url=url), url) == "unreachable"
