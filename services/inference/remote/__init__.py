"""The backend `grpc`: a model of another InferenceService, by URL."""
