"""Conversions of small types in registers, as short sequences of instructions.

What a sequence may consist of is :mod:`program`; the ways to convert integers and floats, which follow from the
description of a type, are :mod:`integers`, :mod:`floats` and :mod:`lookup`, their names :mod:`recipes`. :mod:`search`
tries them all, :mod:`verify` on all bit patterns, and what it finds is in :mod:`table`; :mod:`emit` makes operations of
it.
"""

from tilus.lowering.conversions.emit import convert_words, group_of, order_for

__all__ = ["convert_words", "group_of", "order_for"]
