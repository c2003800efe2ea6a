"""The data plane: what runs the model and holds its KV blocks."""
