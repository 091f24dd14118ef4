//! What the audit chain proves, and what it cannot.
