"""Rehearsal: a service is started, put under load and taken away as an orchestrator would, and what its users
lost is written down and explained.

Nothing here is imported by those who only serve; it needs the extra `rehearse`.
"""
