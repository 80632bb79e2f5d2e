"""What is seen between parted lips: cavity, tongue and two rows of teeth, shaded by the lips. Moves no skin."""

import cv2
import numpy as np

from pipeline.draft.geometry import FACE_OVAL, INNER_LOWER_LIP, INNER_UPPER_LIP, LIP_INSET, FaceGeometry, smoothstep

CANVAS = (-0.85, -0.40, 0.85, 0.85)  # units: left, top, right, bottom of what is painted, from the mouth's middle
OVERSAMPLING = 2  # canvas pixels per frame pixel: the curves of the teeth stay smooth when turned
MAX_DENSITY = 220  # canvas pixels per unit; a larger mouth is not seen any sharper

# RGB in the light of a skin whose mean is SKIN_LIGHT; darker skin means less light on the picture.
CAVITY_TOP, CAVITY_BOTTOM = (38, 10, 10), (90, 36, 34)
CAVITY_DEPTH = 0.35  # units below the seam where the cavity is as light as it gets
TONGUE = (178, 92, 88)
TOOTH = (232, 222, 206)
TINTED = 0.50  # of the skin's own tint taken on by the teeth: the same light falls on both, and blood shines through
TINT_RANGE = (0.70, 1.25)  # of grey: a fox's orange is its fur's, not its light's
SIDE_LIGHT_ROWS, SIDE_LIGHT_BLUR = (-0.28, 0.28), 0.12  # units above and below the lips where the light is read
SKIN_LIGHT = 165.0
LIGHT_RANGE = (0.40, 1.10)
SKIN_CHROMA = 0.30  # (max - min) / max of lit skin; a grey engraving gets a grey mouth

# Anatomy in units of the mouth's width, about 50 mm. Source: draft measured on photographs of open mouths.
UPPER_EDGE = 0.065  # the front teeth's edge below the resting seam
UPPER_TOP = -0.12
SMILE_ARC = 0.42  # how fast the edge rises towards the sides, per unit squared
TOOTH_WIDTHS = (0.085, 0.072, 0.070, 0.062, 0.058, 0.055)  # from the middle to one side
LOWER_EDGE = -0.016  # the lower teeth's edge above the lower lip's
LOWER_TOOTH_WIDTH = 0.055
TONGUE_SIZE = (0.30, 0.16)
TONGUE_REST, TONGUE_RAISE = 0.105, 0.12  # below the lower lip's edge; how far "l" and "th" lift it
LIP_SHADOW, LIP_SHADOW_DEPTH = 0.62, 0.085  # light left under the upper lip; units until it is full
CORNER_SHADOW = 0.45  # of the light lost towards the corners


class MouthInterior:
    """The inside of one mouth, painted once and composed per frame.

    Args:
        frame: (height, width, 3) uint8, RGB, the face at rest.
        face: Where the mouth is. When its lips are apart in the picture, what they show there stays.
    """

    def __init__(self, frame: np.ndarray, face: FaceGeometry) -> None:
        self._face = face
        self._density = min(OVERSAMPLING * face.unit, MAX_DENSITY)
        left, top, right, bottom = CANVAS
        columns, rows = round((right - left) * self._density), round((bottom - top) * self._density)
        u = left + (np.arange(columns, dtype=np.float32) + 0.5) / self._density
        v = top + (np.arange(rows, dtype=np.float32) + 0.5) / self._density
        self._u, self._v = np.meshgrid(u, v)
        self._light(frame)
        light = self._light_across(frame)
        self._head, self._jaw, self._tongue = self._paint_upper(), self._paint_lower(), self._paint_tongue()
        for layer in (self._head, self._jaw, self._tongue):
            layer[..., :3] *= light
        if face.is_open:
            self._own = self._keep_own(frame)

    def compose(
        self,
        at: np.ndarray,
        upper_lip: np.ndarray,
        lower_lip: np.ndarray,
        jaw_drop: float,
        tongue: float,
        pucker: float,
    ) -> np.ndarray:
        """What stands at some places of the head, lips taken away.

        Args:
            at: (rows, columns, 2) float32 pixels of the frame with the head unturned.
            upper_lip: (n, 2) edge of the upper lip, pixels, head unturned.
            lower_lip: (n, 2) edge of the lower lip.
            jaw_drop: Units the jaw came down.
            tongue: 0 at rest, 1 raised to the teeth.
            pucker: 0..1; rounded lips stand in front of the teeth and keep the light out.

        Returns:
            (rows, columns, 3) float32, RGB.
        """
        place = self._face.to_face(at)
        teeth = self._read(self._head, place, 0.0)
        cavity_depth = np.clip(place[..., 1:] / CAVITY_DEPTH, 0, 1)
        cavity = self._cavity[0] + cavity_depth * (self._cavity[1] - self._cavity[0])
        for layer, drop in ((self._tongue, jaw_drop - TONGUE_RAISE * tongue), (self._jaw, jaw_drop)):
            painted = self._read(layer, place, drop)
            cavity = cavity + painted[..., 3:] / 255 * (painted[..., :3] - cavity)
        out = cavity + teeth[..., 3:] / 255 * (teeth[..., :3] - cavity)

        edges = self._face.to_face(upper_lip), self._face.to_face(lower_lip)
        u = place[..., 0]
        top, bottom = (np.interp(u, edge[:, 0], edge[:, 1]).astype(np.float32) for edge in edges)
        depth = np.clip((place[..., 1] - top) / LIP_SHADOW_DEPTH, 0, 1)
        shade = LIP_SHADOW - 0.22 * pucker + (1 - LIP_SHADOW + 0.1 * pucker) * smoothstep(depth, 0, 1)
        left, right = edges[0][0, 0], edges[0][-1, 0]
        middle, half = (left + right) / 2, max((right - left) / 2, 0.05)
        shade = shade * (1 - CORNER_SHADOW * smoothstep(np.abs(u - middle) / half, 0.35, 1.0))
        shade = shade * (0.82 + 0.18 * np.clip((bottom - place[..., 1]) / 0.05, 0, 1))
        kept = self._kept(place)
        shade = (shade + kept * (1 - shade) * np.clip(depth + 0.55, 0, 1))[..., None]
        tint = np.array([1.0, 1.06, 1.10], np.float32)  # in shade blue and green go a little before red
        return out * shade**tint

    def _read(self, layer: np.ndarray, place: np.ndarray, drop: float) -> np.ndarray:
        """A painted layer at (u, v) units, let down by `drop`."""
        left, top, _, _ = CANVAS
        x = (place[..., 0] - left) * self._density - 0.5
        y = (place[..., 1] - np.float32(drop) - top) * self._density - 0.5
        drawn = cv2.remap(layer, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return drawn.astype(np.float32)

    def _kept(self, place: np.ndarray) -> np.ndarray:
        """Where the picture's own teeth show: they are shaded already."""
        return self._read(self._own, place, 0.0) if self._face.is_open else np.zeros(place.shape[:2], np.float32)

    def _light(self, frame: np.ndarray) -> None:
        """Take brightness and colourfulness from the skin."""
        oval = np.zeros(frame.shape[:2], np.uint8)
        cv2.fillPoly(oval, [np.rint(self._face.landmarks[FACE_OVAL, :2]).astype(np.int32)], 1)
        skin = np.median(frame[oval > 0], axis=0).astype(np.float32)
        light = float(np.clip(skin.mean() / SKIN_LIGHT, *LIGHT_RANGE))
        chroma = float(np.clip(np.ptp(skin) / max(float(skin.max()), 1.0) / SKIN_CHROMA, 0, 1))

        def lit(colour: tuple[int, int, int]) -> np.ndarray:
            full = np.array(colour, np.float32) * light
            return full.mean() + chroma * (full - full.mean())

        self._cavity = lit(CAVITY_TOP), lit(CAVITY_BOTTOM)
        self._tongue_colour = lit(TONGUE)
        tint = np.clip(skin / max(float(skin.mean()), 1.0), *TINT_RANGE)
        self._tooth = lit(TOOTH) * (1 + TINTED * (tint - 1))

    def _light_across(self, frame: np.ndarray) -> np.ndarray:
        """How the light changes from one side of the mouth to the other, around 1: (rows, columns, 1)."""
        rows = np.array([SIDE_LIGHT_ROWS], np.float32).T + 0 * self._u[:1]
        at = self._face.to_frame(np.stack([np.broadcast_to(self._u[:1], rows.shape), rows], axis=-1))
        grey = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (0, 0), SIDE_LIGHT_BLUR * self._face.unit)
        profile = cv2.remap(grey, at[..., 0], at[..., 1], cv2.INTER_LINEAR).astype(np.float32).mean(axis=0)
        return np.clip(profile / max(float(np.percentile(profile, 75)), 1.0), 0.45, 1.1)[None, :, None]

    def _paint_upper(self) -> np.ndarray:
        """The row of teeth fixed to the head, RGBA."""
        seam = self._face.seam_at(np.zeros(1, np.float32))
        u, v = self._u, self._v - seam
        tooth, across = _tooth_at(np.abs(u), TOOTH_WIDTHS)
        edge = UPPER_EDGE - SMILE_ARC * u**2 + 0.006 * np.abs(across) ** 3 - 0.005 * (tooth == 1)
        reach = sum(TOOTH_WIDTHS)
        soft = 1.0 / self._density
        alpha = np.clip((edge - v) / (2 * soft) + 0.5, 0, 1) * (1 - smoothstep(np.abs(u), 0.80 * reach, reach))
        alpha = alpha * np.clip((v - UPPER_TOP) / 0.03, 0, 1)
        gap = np.clip((np.abs(across) - 0.86) / 0.14, 0, 1)
        shade = (
            (1 - 0.30 * gap)
            * (1 - 0.5 * smoothstep(np.abs(u), 0.10, reach))
            * (0.88 + 0.12 * smoothstep(v, -0.08, 0.03))
        )
        shade = shade * (1 - 0.10 * np.clip((v - edge + 0.02) / 0.02, 0, 1))  # the biting edge lets light through
        return np.dstack([self._tooth * shade[..., None], 255 * alpha]).astype(np.float32)

    def _keep_own(self, frame: np.ndarray) -> np.ndarray:
        """Lay what the picture shows between the lips over the painted row; where it does, 0..1: (rows, columns)."""
        at = self._face.to_frame(np.stack([self._u, self._v], axis=-1))
        seen = cv2.remap(frame, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        lips = self._face.landmarks[INNER_UPPER_LIP + INNER_LOWER_LIP[::-1], :2]
        left, top, _, _ = CANVAS
        outline = (self._face.to_face(lips) - [left, top]) * self._density
        own = np.zeros(self._u.shape, np.uint8)
        cv2.fillPoly(own, [np.rint(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        margin = max(
            1, round(1.5 * LIP_INSET * self._density)
        )  # up to the lips' own edge, so that rest looks as in the picture
        own = cv2.dilate(own, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1,) * 2))
        own = cv2.GaussianBlur(own, (0, 0), 0.5 * margin)
        share = own.astype(np.float32) / 255
        self._head += share[..., None] * (np.dstack([seen, np.full_like(seen[..., :1], 255)]) - self._head)
        return share

    def _paint_lower(self) -> np.ndarray:
        """The row of teeth fixed to the jaw, RGBA, as it stands when the mouth is closed."""
        u, v = self._u, self._v - self._face.seam_at(np.zeros(1, np.float32))
        _, across = _tooth_at(np.abs(u), (LOWER_TOOTH_WIDTH,) * 7)
        edge = LOWER_EDGE + 0.10 * u**2 + 0.004 * np.abs(across) ** 3
        soft = 1.0 / self._density
        alpha = np.clip((v - edge) / (2 * soft) + 0.5, 0, 1) * (1 - smoothstep(np.abs(u), 0.26, 0.38))
        gap = np.clip((np.abs(across) - 0.84) / 0.16, 0, 1)
        shade = 0.74 * (1 - 0.12 * gap) * (1 - 0.5 * smoothstep(np.abs(u), 0.08, 0.36))
        return np.dstack([self._tooth * shade[..., None], 255 * alpha]).astype(np.float32)

    def _paint_tongue(self) -> np.ndarray:
        """The tongue at rest behind the lower teeth, RGBA."""
        u, v = self._u, self._v - self._face.seam_at(np.zeros(1, np.float32))
        width, height = TONGUE_SIZE
        radius = np.hypot(u / width, (v - TONGUE_REST) / height)
        alpha = 1 - smoothstep(radius, 0.88, 1.04)
        groove = 1 - 0.12 * np.exp(-((u / 0.03) ** 2))
        shade = (0.72 + 0.28 * smoothstep(1 - radius, 0, 0.5)) * groove
        return np.dstack([self._tongue_colour * shade[..., None], 255 * alpha]).astype(np.float32)


def _tooth_at(u: np.ndarray, widths: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which tooth stands at a distance from the middle, and where across it, -1..1."""
    ends = np.cumsum(widths)
    tooth = np.minimum(np.searchsorted(ends, u), len(widths) - 1)
    start = np.r_[0.0, ends][tooth]
    return tooth, 2 * (u - start) / np.array(widths)[tooth] - 1
