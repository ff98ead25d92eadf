"""The proof that it always ends in time: apps, clients and signals that do what nobody should, under
`graceful run` and beside it under plain uvicorn. `python -m hostile` plays them all and prints a table.
"""
