"""What watches models: notes and traces of the registry's answers, and the profile of a file's rows."""
