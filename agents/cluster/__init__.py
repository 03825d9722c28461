"""Where runs are done: a Ray of this machine or a cluster, its resources and workers."""
