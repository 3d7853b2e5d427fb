"""What a sampled reply is worth: rewards from 1 to 5, each of a part of the reply."""
