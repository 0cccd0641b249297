"""The engine: makes clusters, brings up agents, submits jobs, takes everything down, and finds what was forgotten.

Decisions are pure functions (`gang`, `reconcile`, `failover`); the modules beside them perform what was decided.
"""
