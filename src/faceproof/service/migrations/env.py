"""Alembic's entry: runs the migrations on the connection that ``Store.upgrade`` hands over."""

from __future__ import annotations

from alembic import context

from faceproof.service.tables import Table

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
