"""Interventions: what passes a model's places, looked at and changed; and edges of its maps, knocked out."""

from dualform.lenses.knockout import KnockOut, edge_effects, knock_out
from dualform.lenses.traces import Trace, trace

__all__ = ["KnockOut", "Trace", "edge_effects", "knock_out", "trace"]
