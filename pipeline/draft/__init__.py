"""The draft engine: a talking portrait on any CPU, with nothing to download."""
