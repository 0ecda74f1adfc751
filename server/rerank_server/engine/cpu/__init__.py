"""A forward of our own for BERT-shaped encoders on a CPU, without transformers.

Rows are packed, never padded; weights are laid out once for oneDNN, with bias, GELU and residual fused into
the products; where only the first token of a row is read, the last layer computes nothing else.
"""
