"""Networks: the paper's 12, its two larger ones, and those that users build.

`spec` lists the layers as data, `build` makes modules of them, `init` sets their weights.
`reseed` gives the dropout its masks before each step of training.
"""

from strive.networks.build import build_network, check_network, count_parameters
from strive.networks.custom import builder_file
from strive.networks.dropout import reseed

__all__ = ["build_network", "builder_file", "check_network", "count_parameters", "reseed"]
