//! SAML documents that cost more than they should, or that two parsers read differently.
