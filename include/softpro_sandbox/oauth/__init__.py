"""OAuth 2.0 as the contract has it: authorization code, PKCE, rotating refresh, revocation."""
