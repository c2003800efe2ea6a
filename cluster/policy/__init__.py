"""Small swappable deciders: where a request runs, where a running one moves."""
