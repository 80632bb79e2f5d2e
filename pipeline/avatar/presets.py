"""The numbers the model was published with, each with its source; no arithmetic beyond them.

Source: HunyuanVideo-Avatar, commit fd59436, the shipped scripts and hymm_sp/.
"""

from pipeline.plan import FPS as FPS  # 25; the model also knows 12.5

SAMPLE_RATE = 16_000  # Hz; what Whisper's feature extractor expects
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS  # 640

FRAMES_PER_LATENT = 4  # video frames in a latent frame, the first excepted; Source: HunyuanVideo's VAE
WINDOW_LATENT_FRAMES = 33  # denoised together; what the model was trained on
WINDOW_FRAMES = FRAMES_PER_LATENT * (WINDOW_LATENT_FRAMES - 1) + 1  # 129, or 5.16 s
WINDOW_SHIFT = 10  # latent frames by which windows move every step; Source: pipeline_hunyuan_video_audio.py
EXTRA_FRAMES = 5  # silent video frames put after a speech longer than a window; Source: audio_dataset.py

NUM_INFERENCE_STEPS = 50
GUIDANCE_SCALE = 7.5
FLOW_SHIFT = 5.0  # of the scheduler's sigmas
IMAGE_SIZE = 704  # pixels, the shorter side

MOTION_POSE = 25  # strength of head motion, an id the network embeds
MOTION_EXP = 30  # strength of expression
PROMPT_PREFIX = "Authentic, Realistic, Natural, High-quality, Lens-Fixed, "  # before the visitor's prompt
NEGATIVE_PROMPT = (  # Source: HunyuanVideo-Avatar, hymm_sp/sample_inference_audio.py
    "Aerial view, aerial view, overexposed, low quality, deformation, a poor composition, bad hands, bad teeth, "
    "bad eyes, bad limbs, distortion, blurring, Lens changes"
)

PUBLISHED_FOLDERS = {  # component -> its folder under ckpts; Source: HunyuanVideo-Avatar, hymm_sp/constants.py
    "transformer": "hunyuan-video-t2v-720p/transformers",
    "vae": "hunyuan-video-t2v-720p/vae",
    "text_encoder": "llava_llama_image",
    "text_encoder_2": "text_encoder_2",
    "audio_encoder": "whisper-tiny",
}
