"""Styx on Kubernetes: every pod a node, reached through the API server alone."""

from styx_k8s.driver import Kubernetes

__all__ = ["Kubernetes"]
