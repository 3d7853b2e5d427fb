"""Post-training: examples, rollouts, objectives and the loop."""
