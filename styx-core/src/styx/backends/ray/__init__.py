"""The backend for clusters of several nodes: a real Ray cluster gathers the nodes, their agents run the ranks.

`styx.backends.ray.backend` holds the backend; nothing here imports Ray.
"""
