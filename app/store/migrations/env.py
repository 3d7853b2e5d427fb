"""Run by Alembic: applies the steps on the connection that ``app.store.migrating`` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
# The caller's transaction holds all steps.
context.run_migrations()
