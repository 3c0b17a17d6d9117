"""Whether the rows that are served are still like those that the model was made from."""
