"""OpenAI's chat completions as a client speaks them: the backend `openai` and modules do. Needs httpx and pydantic."""
