"""Programs of Ascend cores: tiles in local memories, moved and computed with by calls for pipes, which flags order."""
