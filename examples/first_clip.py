from pathlib import Path

from pipeline import RenderRequest, render

examples = Path("examples")
request = RenderRequest(
    portrait=examples / "portraits/woman_facing_camera.jpg",
    speech=examples / "voices/english_calm_8s.wav",
)
result = render(request)
print(f"{result.path}: {result.clip_seconds:.1f} s of clip in {result.seconds:.1f} s")
