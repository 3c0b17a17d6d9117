"""JSON: one row, a batch, tables, and lines of rows."""
