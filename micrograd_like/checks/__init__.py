"""A graph doubted: is its gradient right, where does a NaN begin, does it still fit its numbers?

Read `checking.py` first (`gradcheck`), then `analytic.py` (the complex step) and `anomaly.py`.
"""

from .anomaly import detect_anomaly, stale
from .checking import gradcheck

__all__ = ["detect_anomaly", "gradcheck", "stale"]
