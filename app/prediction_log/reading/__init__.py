"""Reading the log: pages of rows from the tables or the Parquet files, in the formats of `GET /predictions`."""
