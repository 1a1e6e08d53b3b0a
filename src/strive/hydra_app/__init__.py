"""Any Hydra application as an app of the platform, without a change to its code."""
