"""What runs a job on a cluster's nodes: one node through its agent alone, several through Ray."""
