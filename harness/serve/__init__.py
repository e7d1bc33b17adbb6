"""Serving: decisions batched over clients, and a policy served over openpi's websocket protocol. No Ray, no LIBERO."""
