"""What benchmarks and demo have beside `graceful rehearse`: a sample service, what its users ask of it, and a
server process whose end is known exactly.
"""
