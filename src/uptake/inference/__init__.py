"""From a network and one large image to logits everywhere."""
