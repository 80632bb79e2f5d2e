"""What a finished clip is worth: figures read off its frames, beside those of a still image and of a perfect clip."""
