"""The service that is treated badly: the same requests and resources, wrapped (`ours`) and plain
(`plain`).
"""
