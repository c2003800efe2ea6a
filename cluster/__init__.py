"""The control plane: who works, where each request goes, when it moves."""
