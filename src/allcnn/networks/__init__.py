"""Networks: the paper's 12, its two larger ones, and those that users build.

`spec` lists the layers as data, `facts` checks and measures them before anything trains, `build` makes modules of
them, `init` sets their weights. `dropout.reseed` gives the dropout its masks before each step of training.
"""
