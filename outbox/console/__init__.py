"""The operator's web page and its JSON API; only with the extra ``console``."""
