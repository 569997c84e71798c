"""SpiceDB's side: the effects on relationships, and all that knows SpiceDB's client."""
