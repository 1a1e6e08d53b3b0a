"""Where it is trained, on a cluster: jobs, their queue, and the code that they run."""
