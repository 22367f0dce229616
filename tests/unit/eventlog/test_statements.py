"""Named SQL statements and their parameters."""

from eventlog.db.statements import load_statements, numbered


def test_named_parameters_get_numbers_in_the_order_of_their_first_use() -> None:
    statement, names = numbered("SELECT %(b)s, %(a)s, %(b)s::text, a %% 2, '%'")
    assert statement == b"SELECT $1, $2, $1::text, a % 2, '%'"
    assert names == ("b", "a")


def test_a_statement_without_parameters_is_unchanged() -> None:
    statement = load_statements("eventlog", "log.sql")["read_head"]
    assert numbered(statement) == (statement.encode(), ())
