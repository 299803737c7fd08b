"""Bytes by address: ``s3://``, ``gs://``, ``az://``, ``http(s)://`` and what fsspec knows; copies of them on disk.

``address`` tells addresses from paths, ``stores`` lists and reads, ``obstores`` and ``drivers`` do it for the two
libraries, ``credentials`` finds what S3 asks for, and ``cache`` keeps what was read within a bound.
"""
