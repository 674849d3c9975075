"""Text for distillation: a grammar with exact probabilities, parallel text, tokenizers and batches."""
