"""Subscriptions: what is kept, who is called, who owns them."""
