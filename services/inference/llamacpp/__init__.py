"""The backend `llamacpp`: llama.cpp in this process, with continuous batching."""
