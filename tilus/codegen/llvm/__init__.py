"""LLVM IR as text: modules shared by the NVPTX and the host emitter, and the emitters themselves."""
