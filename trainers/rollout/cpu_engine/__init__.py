"""A compiled decoder for small Llama and Qwen models on a CPU."""
