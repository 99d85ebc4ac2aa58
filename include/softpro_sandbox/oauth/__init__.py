"""Implement OAuth 2.0 as the contract defines it: authorization code, PKCE, rotating refresh, revocation."""
