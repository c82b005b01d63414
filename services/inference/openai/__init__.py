"""The backend `openai`: any server with OpenAI's chat completions, by URL."""
