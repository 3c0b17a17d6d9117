"""What Alembic runs for each command: the migrations, on the connection that the command was given."""

from alembic import context

from app.prediction_log.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
