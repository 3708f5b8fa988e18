"""A graph doubted: is its gradient right, where does a NaN begin, does it still fit its numbers?

`gradcheck` goes from the small to the large. Read `measuring.py` (the local derivatives of a node,
by the complex step or by differences with their error), `function.py` (f, and whether its graph is
f), `checking.py` (the chain rule on what was measured: the check itself) and `reports.py` (what it
found). `anomaly.py` (`detect_anomaly`) and `staleness.py` (`stale`) stand alone.
"""

from .anomaly import detect_anomaly
from .checking import gradcheck
from .staleness import stale

__all__ = ["detect_anomaly", "gradcheck", "stale"]
