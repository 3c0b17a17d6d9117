"""The console: a page for people at `/`, and the routes that only it uses."""
