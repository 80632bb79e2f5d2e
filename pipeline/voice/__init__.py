"""A typed script becomes a voice: one small protocol, and the synthesisers that keep it."""
