"""One module per part: each runs the goldens found in a folder and says how far our numbers are from them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One golden beside our number.

    Args:
        golden: Which.
        found: The largest absolute difference, or for a table the number of entries that differ.
        tolerance: What it may be at most.
    """

    golden: str
    found: float
    tolerance: float
