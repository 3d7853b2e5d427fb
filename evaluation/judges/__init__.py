"""Judges that score replies no rule can: OpenAI-compatible models, asked with prompts of our own."""
