"""The GPU engine: HunyuanVideo-Avatar on diffusers."""
