"""What producers call: requests, enqueueing them, waiting for their outcome. Loads no store's client."""
