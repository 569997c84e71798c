"""The worker: the one loop, take -> apply -> settle, and what it takes from and settles through."""
