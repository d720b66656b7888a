"""Graph → Graph: derivatives, and passes that keep the meaning."""
