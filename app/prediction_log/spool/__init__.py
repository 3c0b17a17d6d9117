"""The spool of a durable log: files on the local disk whose rows are on their way to the tables."""
