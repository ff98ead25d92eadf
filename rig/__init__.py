"""What the benchmarks and the demo put around a service: load, replicas, endpoints that lag, and a sample
service.
"""
