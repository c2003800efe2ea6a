"""The words the parts exchange: ids, requests, events, effects, views."""
