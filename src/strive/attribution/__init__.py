"""Backpropagation, deconvnet and guided backpropagation for any torch module (paper, section 4)."""

from strive.attribution.layer import activations
from strive.attribution.maps import Attribution, attribute
from strive.attribution.overriding import AttributionError
from strive.attribution.rules import Pooling, Rule

__all__ = ["Attribution", "AttributionError", "Pooling", "Rule", "activations", "attribute"]
