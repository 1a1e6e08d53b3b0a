"""Training on this machine: worker processes, devices, retries. And what every launcher needs: folder, live view."""
