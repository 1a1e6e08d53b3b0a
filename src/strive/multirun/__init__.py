"""Hydra's multirun, above planning and launching: a sweep, the parents its values are chosen from, other sweepers."""
