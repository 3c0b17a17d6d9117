"""The HTTP surfaces, a file each. Handlers decode, call and encode; what they call is in `Services`."""
