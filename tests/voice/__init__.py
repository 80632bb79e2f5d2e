"""What tests of voices share."""

import pytest

from pipeline.voice import espeak

needs_espeak = pytest.mark.skipif(not espeak.program(), reason="the program espeak-ng is not installed")
