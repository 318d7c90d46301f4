"""The methods of the API as JSON over HTTP, by the Connect protocol."""
