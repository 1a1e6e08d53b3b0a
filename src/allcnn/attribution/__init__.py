"""Backpropagation, deconvnet and guided backpropagation for any torch module (paper, section 4)."""

from allcnn.attribution.activations import activations
from allcnn.attribution.attribute import Attribution, attribute
from allcnn.attribution.relu_override import AttributionError
from allcnn.attribution.rules import Pooling, Rule

__all__ = ["Attribution", "AttributionError", "Pooling", "Rule", "activations", "attribute"]
