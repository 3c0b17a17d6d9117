"""The model card: its contents, its page and its pictures."""
