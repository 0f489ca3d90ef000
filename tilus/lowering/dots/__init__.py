"""Dots: the unit that does each one, and how the threads of a block share it."""

from tilus.lowering.dots.choose import UNITS, choose_dot_units, unit_of, units_for
from tilus.lowering.dots.unit import DotPlan, DotUnit, Place

__all__ = ["UNITS", "DotPlan", "DotUnit", "Place", "choose_dot_units", "unit_of", "units_for"]
