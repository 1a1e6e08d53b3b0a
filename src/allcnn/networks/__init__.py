"""Networks: the paper's 12, its two larger ones, and those that users build.

`spec` lists the layers as data, `build` makes modules of them, `init` sets their weights.
`reseed` gives the dropout its masks before each step of training.
"""

from allcnn.networks.build import IMAGE_CHANNELS, build_network, check_network, count_parameters
from allcnn.networks.dropout import purposes as dropout_purposes
from allcnn.networks.dropout import reseed

__all__ = [
    "IMAGE_CHANNELS",
    "build_network",
    "check_network",
    "count_parameters",
    "dropout_purposes",
    "reseed",
]
