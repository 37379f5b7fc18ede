"""The engine over DeepSpeed ZeRO: its configuration, its state by parameter names, and the update in blocks."""
