"""Migrations of the log's database by Alembic, each in the transaction of `engine.open_engine`."""
