"""A model as a function for engines: Arrow in, Arrow out."""
