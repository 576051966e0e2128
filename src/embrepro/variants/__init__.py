"""Stored embeddings made shorter or coarser: what that costs in score, and what it saves in memory."""
