"""Run the migrations on the connection that `softpro.db.migrations` passes to Alembic."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema="softpro",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
