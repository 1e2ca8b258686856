"""Feature files: computed once by a frozen backbone, keyed, resumable, readable with NumPy."""
