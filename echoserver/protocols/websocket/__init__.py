"""WebSocket (RFC 6455), with compressed messages (RFC 7692)."""
