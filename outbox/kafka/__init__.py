"""The Kafka wire: what is sent, how it is taken, and the two modules that speak to a broker.

kafka-python is synchronous. ``consumer``, ``producer`` and ``admin`` are the only modules that import it; the
first two run it in a thread of its own.
"""
