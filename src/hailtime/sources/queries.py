"""What is read from a database: which columns of which table or SELECT, in which order."""

import re
from dataclasses import dataclass

from hailtime.sources.columns import TableColumns


@dataclass(frozen=True)
class Query:
    """Some columns of a table.

    - table: `rides`, `schema.rides` or a SELECT
    - names: the columns that are read
    - order_by: the columns that order the rows; none gives them in any order
    - texts: those of `names` that are wanted as text
    - where: what messages call the table
    """

    table: str
    names: tuple[str, ...]
    order_by: tuple[str, ...]
    texts: frozenset[str]
    where: str

    @classmethod
    def of(cls, what: str, table: str, columns: TableColumns, order_by: tuple[str, ...] = ()) -> "Query":
        """The columns that a yaml names; `what` says whose table it is."""
        table = table.strip().rstrip(";")
        name = f"the SELECT of {what}" if is_select(table) else f"table {table}"
        texts = frozenset(entry.column for entry in columns.entries if entry.kind == "text")
        return cls(table, tuple(columns.names), order_by, texts, name)

    @property
    def is_select(self) -> bool:
        return is_select(self.table)

    @property
    def schema_and_table(self) -> tuple[str | None, str]:
        schema, _, name = self.table.rpartition(".")
        return schema or None, name


def is_select(table: str) -> bool:
    """Whether it is a query and not a name."""
    return re.match(r"(select|with)\s", table, re.IGNORECASE) is not None
