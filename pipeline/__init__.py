"""Portrait Parlant: one picture and one voice become a clip of that character speaking."""

from pipeline.errors import AvatarError
from pipeline.render import render, render_steps, resume, resume_steps
from pipeline.request import RenderRequest, RenderResult

__all__ = ["AvatarError", "RenderRequest", "RenderResult", "render", "render_steps", "resume", "resume_steps"]
