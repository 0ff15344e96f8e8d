"""Turns a Transformer into a hybrid of attention and Mamba layers, and makes its draft."""
