"""Other people's schemas, accounts, settings and servers: what was found wrong there, by kind."""
