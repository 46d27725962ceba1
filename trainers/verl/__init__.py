"""GRPO and DAPO by verl: vLLM samples, FSDP trains, our selection and objective decide what is learned."""
