"""Hidden states to the numbers of a token, without a logits tensor: one contract, plain torch and Triton behind it."""
