"""Where it is trained, here: worker processes, devices, retries."""
