"""The contracts of components, for the tests of whoever writes one.

Each function takes a class, and where there is one its formula written out on plain floats, and
raises ``AssertionError`` or ``UserError`` where the class does not keep to the contract of its
kind::

    def test_mine() -> None:
        check_score_function(Mine, lambda h, r, t: sum(a * b * c for a, b, c in zip(h, r, t)))

A class need not be registered.
"""

from __future__ import annotations

from dglke_distill.testing.calibrations import check_calibration
from dglke_distill.testing.common import check_component, registered
from dglke_distill.testing.data import check_dataset
from dglke_distill.testing.losses import check_loss, check_soft_loss
from dglke_distill.testing.methods import check_method, check_schedule
from dglke_distill.testing.models import check_score_function
from dglke_distill.testing.outputs import check_export_format, check_storage

__all__ = [
    "check_calibration",
    "check_component",
    "check_dataset",
    "check_export_format",
    "check_loss",
    "check_method",
    "check_schedule",
    "check_score_function",
    "check_soft_loss",
    "check_storage",
    "registered",
]
