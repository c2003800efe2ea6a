"""Models: what they are, their weights, their forward pass, their language.

`tokenizer`, `chat` and `spec` need neither torch nor Ray: gateways use them too.
"""
